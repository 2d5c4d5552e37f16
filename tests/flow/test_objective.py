"""Scores of a candidate without a campaign; with one: examples/widths.py."""

import numpy as np
import pytest

from tercet.flow import resilience_estimate
from tercet.flow.design import prepare
from tercet.flow.objective import Objective
from tercet.flow.plan import Plan, Settings
from tercet.quant.sensitivity import measure


@pytest.fixture
def scores(small):
    """scores(plan, **options of Objective) of the small network."""

    def call(plan=None, **options):
        objective = Objective(small.frames(20), np.zeros(20, int), predicted=True, **options)
        return objective(small.graph(), small.FOLDING, plan)

    return call


def test_predicts_the_exposure_of_the_design(small, scores):
    select = small.frames(20, seed=1)
    found = scores(select_x=select, seed=3)

    table = measure(small.graph(), select, seed=3)
    expected = resilience_estimate(prepare(small.graph(), small.FOLDING), table)
    assert found.vulnerable_bit_cycles == expected.vulnerable_bit_cycles > 0
    assert found.minimise()[1] == found.vulnerable_bit_cycles
    assert found.interval is None


def test_a_protected_design_has_less_exposure(scores):
    protected = scores(Plan(default=Settings(control="tmr")))

    assert protected.vulnerable_bit_cycles < scores().vulnerable_bit_cycles
    assert protected.luts > scores().luts
