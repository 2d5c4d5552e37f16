"""Shared shift-adds: equal to the matrix product, within their ranges and their depth."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.hw.cmvm import csd, solve

INTERVALS = st.sampled_from([(0, 1), (0, 127), (-128, 127), (-5, 3), (3, 9), (-8, -2), (0, 0)])


@st.composite
def products(draw):
    """A matrix, an interval for each of its inputs, and the slack of the depth."""
    out, inner = draw(st.integers(1, 6)), draw(st.integers(1, 8))
    limit = draw(st.sampled_from([1, 7, 127]))
    weights = st.lists(st.integers(-limit - 1, limit), min_size=inner, max_size=inner)
    matrix = draw(st.lists(weights, min_size=out, max_size=out))
    ranges = draw(st.lists(INTERVALS, min_size=inner, max_size=inner))
    return np.array(matrix), ranges, draw(st.integers(0, 2))


def inputs(ranges, seed=0, count=40):
    """Frames within the ranges, the corners of all of them among these."""
    low, high = np.array(ranges).T
    x = np.random.default_rng(seed).integers(low, high + 1, (count, len(ranges)))
    return np.concatenate([x, [low, high]])


@settings(max_examples=150, deadline=None)
@given(products())
def test_the_additions_equal_the_matrix_product(product):
    matrix, ranges, slack = product
    graph, x = solve(matrix, ranges, slack), inputs(ranges)

    assert (graph.evaluate(x) == x @ matrix.T).all()


@settings(max_examples=60, deadline=None)
@given(products())
def test_every_node_is_unsigned_and_reaches_its_largest_value(product):
    matrix, ranges, slack = product
    graph = solve(matrix, ranges, slack)
    # The largest value of a node is at the corner that its own weights choose.
    values = [{i: 1} for i in range(graph.inputs)]
    for adder, high in zip(graph.adders, graph.highs[graph.inputs :], strict=True):
        weights = dict(values[adder.a])
        for i, w in values[adder.b].items():
            weights[i] = weights.get(i, 0) + (-w if adder.minus else w) * (1 << adder.shift)
        values.append(weights)
        corner = [hi if weights.get(i, 0) > 0 else lo for i, (lo, hi) in enumerate(ranges)]
        assert node_value(graph, len(values) - 1, corner) == high
        worst = [lo if weights.get(i, 0) > 0 else hi for i, (lo, hi) in enumerate(ranges)]
        assert node_value(graph, len(values) - 1, worst) >= 0


def node_value(graph, node, x):
    """The number in a node for the elements x."""
    values = [int(a) + offset for a, offset in zip(x, graph.offsets, strict=True)]
    for adder in graph.adders[: node - graph.inputs + 1]:
        b = values[adder.b]
        b = (1 << graph.bits[adder.b]) - b if adder.minus else b
        values.append(values[adder.a] + (b << adder.shift))
    return values[node]


@settings(max_examples=60, deadline=None)
@given(products())
def test_output_ranges_are_tight(product):
    matrix, ranges, slack = product
    graph = solve(matrix, ranges, slack)

    low, high = np.array(ranges).T
    ends = matrix * low, matrix * high
    assert [lo for lo, _ in graph.ranges] == np.minimum(*ends).sum(axis=1).tolist()
    assert [hi for _, hi in graph.ranges] == np.maximum(*ends).sum(axis=1).tolist()


@settings(max_examples=60, deadline=None)
@given(products())
def test_the_depth_is_bounded(product):
    matrix, ranges, slack = product

    longest = max(sum(len(csd(int(w))) for w in row) for row in matrix)
    assert solve(matrix, ranges, slack).depth <= max(0, longest - 1).bit_length() + slack


@pytest.mark.parametrize("value", [*range(-300, 300), 2**20 - 1, -(2**20) + 1])
def test_canonical_digits_have_no_neighbours(value):
    digits = csd(value)
    shifts = [shift for shift, _ in digits]

    assert sum(digit << shift for shift, digit in digits) == value
    assert all(b - a >= 2 for a, b in itertools.pairwise(shifts))


def test_a_shared_pair_is_added_once():
    graph = solve(np.array([[1, 1, 0], [1, 1, 2], [2, 2, -1]]), [(0, 15)] * 3)

    assert len(graph.adders) == 3


def test_a_row_of_zeros_is_a_constant():
    graph = solve(np.array([[0, 0], [1, -4]]), [(-8, 7)] * 2)

    assert graph.outputs[0].node is None
    assert graph.evaluate(np.array([[3, -2]])).tolist() == [[0, 11]]


def test_dense_weights_take_half_the_additions_of_their_digits():
    matrix = np.random.default_rng(3).integers(-127, 128, (16, 32))
    digits = sum(len(csd(int(w))) for w in matrix.ravel())
    graph, x = solve(matrix, [(-128, 127)] * 32), inputs([(-128, 127)] * 32)

    assert (graph.evaluate(x) == x @ matrix.T).all()
    assert len(graph.adders) < (digits - 16) * 0.6


def test_the_search_is_deterministic():
    matrix = np.random.default_rng(4).integers(-127, 128, (6, 9))

    assert solve(matrix, [(0, 127)] * 9) == solve(matrix.copy(), [(0, 127)] * 9)


@pytest.mark.parametrize(
    ("matrix", "ranges", "slack", "complaint"),
    [
        ([1, 2], [(0, 1)] * 2, 0, "matrix must be"),
        ([[1, 2]], [(0, 1)], 0, "matrix must be"),
        (np.zeros((0, 2)), [(0, 1)] * 2, 0, "matrix must be"),
        ([[1]], [(2, 1)], 0, "lo <= hi"),
        ([[1]], [(0, 1)], -1, "slack"),
    ],
)
def test_what_is_no_product_is_refused(matrix, ranges, slack, complaint):
    with pytest.raises(ValueError, match=complaint):
        solve(np.array(matrix), ranges, slack)
