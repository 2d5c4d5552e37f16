"""Ranges hold for every value and every partial sum, and are reached where they can be."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.quant import ir, ranges, reference
from tercet.quant.errors import InputError

INT8 = ir.TensorType(bits=8, signed=True)
SEEDS = st.integers(0, 2**32 - 1)


def _dense(weight, bias, requantize=None):
    return ir.Dense(name="fc", inputs=("x",), weight=weight, bias=bias, requantize=requantize)


def _graph(node, shape, kind=INT8):
    return ir.Graph("g", "x", shape, kind, (node,), node.name)


@pytest.mark.parametrize(
    ("lo", "hi", "bits"),
    [(0, 0, 2), (-1, 0, 2), (-2, 1, 2), (-3, 1, 3), (0, 2, 3), (-128, 127, 8), (-128, 128, 9)],
)
def test_signed_bits(lo, hi, bits):
    assert ranges.signed_bits(lo, hi) == bits


@settings(max_examples=150, deadline=None)
@given(seed=SEEDS)
def test_values_and_types_hold(random_graph, random_input, seed):
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)
    x = random_input(rng, graph, 16)

    found, kinds = ranges.infer(graph), ranges.types(graph)

    for name, values in reference.execute(graph, x).items():
        assert found[name].lo <= values.min() <= values.max() <= found[name].hi, name
        assert kinds[name].lo <= found[name].lo <= found[name].hi <= kinds[name].hi, name


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS)
def test_partial_sums_hold_in_any_order(random_graph, random_input, naive, seed):
    """Products of both forms are added in a random order, the bias somewhere among them."""
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, {"Conv2d", "Dense", "Flatten"}, max_hw=4, max_channels=3)
    kinds, found = ranges.types(graph), ranges.infer(graph)
    values = reference.execute(graph, random_input(rng, graph, 1))
    nodes = [n for n in graph if isinstance(n, ir.Conv2d | ir.Dense)]
    assert nodes

    for node in nodes:
        zero, bounds = kinds[node.inputs[0]].zero_point, found[node.name]
        for index, pairs in naive.products(node, values[node.inputs[0]][0], zero):
            bias = int(node.bias[index[-1]])
            centred = [bias, *(w * (x - zero) for w, x in pairs)]
            folded = [bias - zero * sum(w for w, _ in pairs), *(w * x for w, x in pairs)]
            for terms, lo, hi in (
                (centred, bounds.acc_lo, bounds.acc_hi),
                (folded, bounds.raw_lo, bounds.raw_hi),
            ):
                sums = np.cumsum(rng.permutation(np.array(terms)))
                assert lo <= sums.min() <= sums.max() <= hi


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_accumulators_of_pools_and_sums_hold(random_graph, random_input, seed):
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, {"MaxPool", "AvgPool", "GlobalAvgPool", "Add"})
    model = reference.Reference(graph)
    values = model.execute(random_input(rng, graph, 8))

    for node in graph:
        if isinstance(node, ir.AvgPool | ir.GlobalAvgPool | ir.Add):
            acc = model.accumulate(node, [values[name] for name in node.inputs])
            bounds = model.ranges[node.name]
            assert bounds.acc_lo <= acc.min() <= acc.max() <= bounds.acc_hi


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS)
def test_a_dense_layer_reaches_its_range(seed):
    rng = np.random.default_rng(seed)
    weight = rng.integers(-128, 128, (3, 20))
    found = ranges.infer(_graph(_dense(weight, [0, 0, 0]), (20,)))["fc"]
    largest = np.concatenate([np.where(weight > 0, 127, -128), np.where(weight > 0, -128, 127)])

    y = reference.run(_graph(_dense(weight, [0, 0, 0]), (20,)), largest)

    assert (found.lo, found.hi) == (y.min(), y.max())
    assert (found.acc_lo, found.acc_hi) == (y.min(), y.max())
    assert (found.raw_lo, found.raw_hi) == (y.min(), y.max())


def test_bias_counts_with_and_without_the_sum():
    found = ranges.infer(_graph(_dense([[1]], [1000]), (1,)))["fc"]

    assert (found.lo, found.hi) == (872, 1127)
    assert (found.acc_lo, found.acc_hi) == (-128, 1127)


def test_folded_form_of_a_zero_point():
    kind = ir.TensorType(bits=8, signed=False, zero_point=10)
    found = ranges.infer(_graph(_dense([[2, 3]], [0]), (2,), kind))["fc"]

    assert (found.acc_lo, found.acc_hi) == (-50, 1225)
    assert (found.raw_lo, found.raw_hi) == (-50, 1275)  # b' = -50 may be missing


def test_per_channel_clamp_gives_the_tensors_range():
    table = ir.Requantize([1, 1], [0, 7], INT8, lo=0)
    found = ranges.infer(_graph(_dense([[0], [1]], [5, 0], table), (1,)))["fc"]

    assert (found.lo, found.hi) == (0, 5)


def test_zero_clip_adds_the_zero_point():
    out = dataclasses.replace(INT8, zero_point=-7)
    table = ir.Requantize([1], [0], out, bound=[50], bound_kind="zero")
    found = ranges.infer(_graph(_dense([[0]], [100], table), (1,)))["fc"]

    assert (found.lo, found.hi) == (-7, -7)


@pytest.mark.parametrize(("m_bits", "fits"), [(31, False), (22, True)])
def test_products_beyond_63_bits_are_refused(m_bits, fits):
    table = ir.Requantize([(1 << m_bits) - 1], [20], INT8, m_bits=m_bits)
    graph = _graph(_dense([[1]], [2**40 - 200], table), (1,))

    if fits:
        assert ranges.infer(graph)["fc"].hi == 127
    else:
        with pytest.raises(InputError, match=r"^fc: acc \* multiplier.*use fewer m_bits"):
            ranges.infer(graph)


@pytest.mark.parametrize("shift", [1, 62])
def test_the_largest_product_that_fits_is_exact(shift):
    """|acc| m + 2^(s-1) just below 2^63, against Python's integers."""
    m = (1 << 31) - 1
    acc = ((1 << 63) - 1 - (1 << (shift - 1))) // m
    for bias, fits in ((acc, True), (acc + 1, False)):
        table = ir.Requantize([m], [shift], INT8, m_bits=31)
        graph = _graph(_dense([[0]], [bias], table), (1,))
        if fits:
            y = reference.run(graph, np.zeros((1, 1), dtype=int))
            assert y.item() == min(127, (bias * m + (1 << (shift - 1))) >> shift)
        else:
            with pytest.raises(InputError, match="fc"):
                ranges.infer(graph)


def test_argmax_type_is_wide_enough():
    node = ir.ArgMax(name="a", inputs=("x",))

    widths = [ranges.types(_graph(node, (n,)))["a"].bits for n in (1, 2, 3, 8, 9)]

    assert widths == [1, 1, 2, 3, 4]


def test_logits_have_their_proven_width():
    kind = ranges.types(_graph(_dense([[1, 1]], [0]), (2,)))["fc"]

    assert kind == ir.TensorType(bits=9, signed=True)
