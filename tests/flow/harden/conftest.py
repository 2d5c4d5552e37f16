"""A coverage table, a profile and a predictor of the small network, without a campaign."""

import numpy as np
import pytest

from tercet.flow import targets
from tercet.flow.design import prepare
from tercet.flow.harden.coverage import Coverage
from tercet.flow.harden.predict import Predictor
from tercet.flow.harden.profile import Cell, Profile

COUNTS = {
    "plain": {
        "control": [100, 1000, 50, 10], "product": [40, 1000, 100, 10],
        "accumulator": [20, 1000, 50, 10], "weight": [30, 1000, 60, 10],
        "post": [10, 500, 30, 10], "stream": [10, 500, 30, 10],
    },
    "control=parity": {"control": [20, 1000, 50, 10], "added": [0, 400, 20, 10]},
    "control=tmr": {"control": [0, 1000, 150, 10]},
    "checksum=3": {
        "control": [80, 1000, 60, 10], "product": [0, 1000, 100, 10],
        "accumulator": [0, 1000, 52, 10], "weight": [10, 1000, 60, 10], "added": [1, 600, 40, 10],
    },
    "tmr=spatial": {
        "product": [0, 1000, 300, 10], "accumulator": [0, 1000, 150, 10],
        "weight": [0, 1000, 180, 10],
    },
}  # fmt: skip
"""Parity leaves a fifth of control's, TMR nothing that was seen."""


@pytest.fixture
def coverage():
    return Coverage({"one": COUNTS})


@pytest.fixture
def make_profile():
    """make_profile(design): control 60 a layer, products 20, sums and weights 10, others 1."""

    def make(design):
        critical = {"control": 60.0, "product": 20.0, "accumulator": 10.0, "weight": 10.0}
        cells = {
            (layer.name, role): Cell(20, critical.get(role, 1.0))
            for layer in design.layers
            for role in (*critical, "requant", "activation")
        }
        return Profile(cells, 100.0, "a test")

    return make


@pytest.fixture
def predictor(helper, coverage, make_profile):
    """Of the small network on an ECP5; neurons of `conv` score 0..5, of `hidden` alike."""
    small = helper("flow", "small")
    plain = prepare(small.graph(), small.FOLDING)
    scores = {"conv": np.arange(6.0), "hidden": np.ones(6), "logits": np.zeros(4)}
    device = targets.find("ecp5-25k")
    return Predictor(plain.graph, plain.folding, device, make_profile(plain), scores, coverage)
