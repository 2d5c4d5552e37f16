"""The golden model against the specification in plain integers, and its edges by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.quant import ir, reference
from tercet.quant.errors import InputError

INT8 = ir.TensorType(bits=8, signed=True)
SEEDS = st.integers(0, 2**32 - 1)


def _table(multiplier=1, shift=0, out=INT8, **more):
    return ir.Requantize([multiplier], [shift], out, **more)


def _graph(shape, node, kind=INT8):
    return ir.Graph("g", "x", shape, kind, (node,), node.name)


@settings(max_examples=250, deadline=None)
@given(seed=SEEDS)
def test_every_tensor_equals_the_specification(random_graph, random_input, naive, seed):
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, max_hw=5, max_channels=4)
    x = random_input(rng, graph, 2)

    found = reference.execute(graph, x)

    for i, image in enumerate(x):
        expected = naive.evaluate(graph, image)
        for name, values in expected.items():
            assert found[name].dtype == np.int64
            assert np.array_equal(found[name][i], values), name


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_run_returns_the_output_of_execute(random_graph, random_input, seed):
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)
    x = random_input(rng, graph, reference.CHUNK_IMAGES + 3)

    assert np.array_equal(reference.run(graph, x), reference.execute(graph, x)[graph.output])


def test_no_images_give_no_results(random_graph):
    graph = random_graph(np.random.default_rng(3))

    y = reference.run(graph, np.zeros((0, *graph.input_shape), dtype=np.int64))

    assert y.shape[0] == 0


@pytest.mark.parametrize(
    ("acc", "shift", "expected"),
    [(3, 1, 2), (-3, 1, -1), (1, 1, 1), (-1, 1, 0), (5, 0, 5), (2, 2, 1), (-2, 2, 0), (-7, 62, 0)],
)
def test_requantize_rounds_half_up(acc, shift, expected):
    assert reference.requantize(_table(1, shift), np.array([acc])) == expected


def test_requantize_is_exact_at_the_largest_multiplier():
    table = _table((1 << 31) - 1, 62, m_bits=31)

    q = reference.requantize(table, np.array([2**31 - 1, -(2**31), 2**30]))

    assert q.tolist() == [1, -1, 0]  # 0.99 up, -0.999.. up, 0.4999.. down


@pytest.mark.parametrize(("kind", "expected"), [("saturate", [3, 10, 10]), ("zero", [3, 10, -5])])
def test_bound_acts_above_its_value_only(kind, expected):
    out = ir.TensorType(bits=8, signed=True, zero_point=-5)
    table = _table(out=out, bound=[10], bound_kind=kind)

    assert reference.requantize(table, np.array([8, 15, 16])).tolist() == expected


def test_bipolar_threshold_makes_plus_one_at_the_threshold():
    table = ir.Thresholds([[4]], ir.TensorType(bits=1, signed=True, bipolar=True))

    assert reference.thresholds(table, np.array([3, 4, 5])).tolist() == [-1, 1, 1]


@pytest.mark.parametrize("terms", [2**10, 2**17])
def test_sums_beyond_float32_are_exact(terms):
    """128 * 128 * 2^10 = 2^24 leaves float32, 2^17 terms pass 2^31."""
    weight = np.full((2, terms), -128)
    weight[1, :5] = 1
    node = ir.Dense(name="fc", inputs=("x",), weight=weight, bias=[1, 0])
    x = np.full((1, terms), -128)

    y = reference.run(_graph((terms,), node), x)

    assert y.tolist() == [[terms * 128 * 128 + 1, (terms - 5) * 128 * 128 - 5 * 128]]


def test_average_over_the_valid_elements_only():
    node = ir.AvgPool(
        name="p",
        inputs=("x",),
        kernel=(2, 2),
        stride=(2, 2),
        padding=(1, 1, 0, 0),
        requantize=_table(1 << 12, 14),
        count_include_pad=False,
    )

    y = reference.run(_graph((3, 3, 1), node), np.full((1, 3, 3, 1), 40))

    assert y.ravel().tolist() == [40, 40, 40, 40]


def test_padding_of_max_pool_is_the_minimum():
    node = ir.MaxPool(name="p", inputs=("x",), kernel=(2, 2), stride=(1, 1), padding=(1, 1, 1, 1))

    y = reference.run(_graph((1, 1, 1), node), np.full((1, 1, 1, 1), -100))

    assert y.ravel().tolist() == [-100] * 4


def test_argmax_takes_the_lowest_index_on_ties():
    node = ir.ArgMax(name="a", inputs=("x",))

    assert reference.run(_graph((4,), node), np.array([[1, 7, 7, 0]])).tolist() == [[1]]


def test_accumulate_and_finish_make_evaluate(random_graph, random_input):
    graph = random_graph(np.random.default_rng(11), ops={"Conv2d"})
    model = reference.Reference(graph)
    x = random_input(np.random.default_rng(1), graph, 3)
    node = graph.nodes[0]

    acc = model.accumulate(node, [x])

    assert np.array_equal(model.finish(node, acc), model.evaluate(node, [x]))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((1, 4)), "needs integers"),
        (np.zeros((1, 5), dtype=int), "shape"),
        (np.zeros(4, dtype=int), "shape"),
        (np.full((1, 4), 128), "outside"),
    ],
)
def test_bad_input_is_refused(x, message):
    node = ir.ArgMax(name="a", inputs=("x",))

    with pytest.raises(InputError, match=message):
        reference.run(_graph((4,), node), x)


def test_zero_is_no_bipolar_value():
    kind = ir.TensorType(bits=1, signed=True, bipolar=True)
    node = ir.ArgMax(name="a", inputs=("x",))

    with pytest.raises(InputError, match="outside"):
        reference.run(_graph((2,), node, kind), np.array([[1, 0]]))
