"""Bounds from calibration: the largest result seen, by layer or neuron; the rest is untouched."""

import numpy as np
import pytest

from tercet.quant import ir, ranges, reference
from tercet.quant.bounds import bounded
from tercet.quant.errors import InputError
from tercet.quant.execute import run as torch_run

U8 = ir.TensorType(8, False)


def graph(zero_point=0):
    """4 features -> dense 3, requantised -> dense 2 logits."""
    rng = np.random.default_rng(1)
    kind = ir.TensorType(8, zero_point < 0, zero_point)
    table = ir.Requantize(np.array([1 << 15]), np.array([22]), kind)
    nodes = (
        ir.Dense(name="a", inputs=("x",), weight=rng.integers(-20, 40, (3, 4)),
                 bias=np.array([0, 100, 200]), requantize=table),
        ir.Dense(name="b", inputs=("a",), weight=rng.integers(-20, 20, (2, 3)),
                 bias=np.zeros(2, int)),
    )  # fmt: skip
    return ir.Graph("bounds", "x", (4,), U8, nodes, "b")


def frames(count, most, seed=0):
    """int64 [count, 4] in 0..most."""
    return np.random.default_rng(seed).integers(0, most + 1, (count, 4))


@pytest.mark.parametrize("per", ["layer", "neuron"])
def test_the_bound_is_the_largest_result_seen(per):
    x = frames(50, 60)
    seen = reference.execute(graph(), x)["a"]

    found = bounded(graph(), x, {"a": ("zero", per)}).node("a").requantize

    most = seen.max(axis=0) if per == "neuron" else [seen.max()]
    assert found.bound.tolist() == list(most)
    assert found.bound_kind == "zero"


def test_frames_that_calibrated_give_what_they_gave():
    x = frames(50, 60)

    after = bounded(graph(), x, {"a": ("zero", "neuron")})

    assert np.array_equal(reference.run(after, x), reference.run(graph(), x))


@pytest.mark.parametrize("zero_point", [0, -7])
@pytest.mark.parametrize("kind", ["zero", "saturate"])
def test_what_lies_above_is_clipped_in_both_executors(kind, zero_point):
    before, large = graph(zero_point), frames(200, 255, seed=1)
    seen = reference.execute(before, frames(50, 60))["a"].max()

    after = bounded(before, frames(50, 60), {"a": (kind, "layer")})

    plain = reference.execute(before, large)["a"]
    instead = seen if kind == "saturate" else zero_point
    expected = np.where(plain > seen, instead, plain)
    assert (plain > seen).any()
    assert np.array_equal(reference.execute(after, large)["a"], expected)
    assert np.array_equal(np.asarray(torch_run(after, large)), reference.run(after, large))
    assert ranges.types(after)["a"] == ranges.types(before)["a"]


def test_a_layer_without_a_requantiser_is_named():
    with pytest.raises(InputError, match="layer b: a bound needs a requantiser"):
        bounded(graph(), frames(5, 60), {"b": ("zero", "layer")})
