"""Bounds of a plan: in graph and circuit alike, taken from the calibration frames."""

import numpy as np
import pytest

from tercet.flow.builder import build_design
from tercet.flow.design import prepare
from tercet.flow.plan_file import parse_plan
from tercet.quant.errors import InputError
from tercet.sim.verify import verify


def plan(**tables):
    """The plan of these layers' tables."""
    return parse_plan({"layer": tables}, "plan")


def test_a_bound_stands_in_the_graph_of_the_design(small):
    x = small.frames(40)
    bound = {"kind": "saturate", "per": "neuron"}

    design = prepare(small.graph(), small.FOLDING, plan(conv={"bound": bound}), x)

    table = design.graph.node("conv").requantize
    assert (table.bound_kind, table.bound.shape) == ("saturate", (6,))
    assert design.graph.node("hidden").requantize.bound is None


def test_the_default_bounds_what_can_be_bounded(small):
    stated = parse_plan({"default": {"bound": {"kind": "zero"}}}, "plan")

    design = prepare(small.graph(), small.FOLDING, stated, small.frames(40))

    bounds = {name: design.graph.node(name).requantize for name in ("conv", "hidden", "logits")}
    assert bounds["conv"].bound.shape == bounds["hidden"].bound.shape == (1,)
    assert bounds["logits"] is None


@pytest.mark.verilator
@pytest.mark.parametrize("kind", ["zero", "saturate"])
def test_the_circuit_clips_as_the_reference_does(small, tmp_path, kind):
    few = np.minimum(small.frames(40), 7)
    stated = plan(conv={"bound": {"kind": kind, "per": "neuron"}})
    design = prepare(small.graph(), small.FOLDING, stated, few)
    build_design(design, tmp_path / "design", frames=small.frames(8, seed=2))

    found = verify(tmp_path / "design", images=8)

    assert (found["images"], found["mismatches"]) == (8, 0)


@pytest.mark.parametrize(
    ("tables", "frames", "match"),
    [
        ({"conv": {"bound": {"kind": "zero"}}}, None, "bound needs inputs .* give --calibration"),
        ({"logits": {"bound": {"kind": "zero"}}}, 4, "layer logits: a bound needs a requantiser"),
        ({"nine": {"bound": {"kind": "zero"}}}, 4, "plan: no layer 'nine' to protect so"),
    ],
)
def test_a_bound_that_cannot_be_is_refused(small, tables, frames, match):
    x = None if frames is None else small.frames(frames)

    with pytest.raises(InputError, match=match):
        prepare(small.graph(), small.FOLDING, plan(**tables), x)
