"""Costs of the checksum units: every register of the circuit is in the closed form."""

import dataclasses

import numpy as np
import pytest
from amaranth.hdl import Fragment

from tercet.flow.costs.checks import check_ffs, check_row, check_store, merged
from tercet.flow.costs.layer import resources
from tercet.hw.checksum import ChecksumLane
from tercet.hw.configure import Fold, Protection, configure
from tercet.hw.frame_check import FrameCheck
from tercet.hw.site import Site
from tercet.quant import ir


def layer(groups, neurons, size, fold, *guard):
    """A 3x3 convolution of 4 channels under a checksum of a modulus and a form."""
    rng = np.random.default_rng(2)
    node = ir.Conv2d(
        name="c", inputs=("x",), weight=rng.integers(-8, 8, (neurons, 3, 3, 4 // groups)),
        bias=rng.integers(-9, 9, neurons), weight_bits=4, padding=(1, 1, 1, 1), groups=groups,
    )  # fmt: skip
    graph = ir.Graph("g", "x", (size, size, 4), ir.TensorType(4, True), (node,), "c")
    modulus, form = guard
    return configure(graph, {"c": fold}, {"c": Protection(modulus, form=form)})[0]


@pytest.fixture
def made(monkeypatch):
    """The registers that are made during the test."""
    found, make = [], Site.register

    def record(self, *args, **options):
        found.append(make(self, *args, **options))
        return found[-1]

    monkeypatch.setattr(Site, "register", record)
    return found


SHAPES = {
    "passes": (1, 4, 5, Fold(2, 6)),
    "one lane": (1, 4, 5, Fold(1, 36)),
    "all at once": (1, 4, 9, Fold(4, 36)),
    "depthwise": (4, 8, 6, Fold(4, 9)),
    "grouped": (2, 8, 6, Fold(2, 3)),
    "shift-adds": (2, 4, 9, Fold(4, 18, "shift")),
}


@pytest.mark.parametrize("form", ["filter", "input"])
@pytest.mark.parametrize("modulus", [3, 7, 255, "exact"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_register_is_counted(made, shape, modulus, form):
    config = layer(*SHAPES[shape], modulus, form)
    unit = FrameCheck if config.by_frame else ChecksumLane
    made.clear()

    Fragment.get(unit(config, Site("c")), None)

    behind = ("commit", "verdict")  # beside the unit
    counted = sum(r.total for r in check_ffs(config) if r.name not in behind)
    assert counted == sum(map(len, made)) > 0


def test_the_input_form_stores_weights_and_sums():
    config = layer(*SHAPES["passes"], 3, "input")

    assert check_row(config) == (4 * 36, 2)  # one weight a cycle, modulo 3
    assert check_store(config) == [(2 * 8, 6 * 2), (2 * 4, 2)]


def test_marks_in_triplicate_do_not_merge_with_the_units():
    config = layer(*SHAPES["passes"], 3, "filter")
    voted = dataclasses.replace(config, control="tmr")

    assert merged(config, in_block=True) == 2
    assert merged(voted, in_block=True) == 0


@pytest.mark.parametrize("family", ["ecp5", "xc7"])
def test_a_larger_modulus_costs_more_and_exact_sums_most(family):
    plain = resources(layer(*SHAPES["passes"], None, "filter"), (4,), family)
    found = [resources(layer(*SHAPES["passes"], m, "filter"), (4,), family) for m in (3, 255)]
    exact = resources(layer(*SHAPES["passes"], "exact", "filter"), (4,), family)

    assert plain.luts < found[0].luts < found[1].luts
    assert plain.ffs < found[0].ffs < found[1].ffs
    assert exact.rtl_ffs > found[0].rtl_ffs
    assert exact.dsps - plain.dsps == 6  # a product for each element of a step
