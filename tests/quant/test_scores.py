"""Criticality scores: each against its definition on small graphs, all of them on any graph."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.quant import criticality, ir, reference
from tercet.quant.criticality.activation import activations, class_oriented
from tercet.quant.criticality.contribution import _relevance, contributions
from tercet.quant.criticality.propagate import Propagation
from tercet.quant.criticality.scores import ranks
from tercet.quant.criticality.taylor import taylor
from tercet.quant.errors import InputError

UINT4 = ir.TensorType(bits=4, signed=False)
INT8 = ir.TensorType(bits=8, signed=True)
MOVES = {"Conv2d", "Dense", "MaxPool", "AvgPool", "GlobalAvgPool", "Add", "Concat", "Flatten"}


def _dense(name, source, weight, table=None, bias=None):
    bias = np.zeros(len(weight), dtype=int) if bias is None else bias
    return ir.Dense(name=name, inputs=(source,), weight=weight, bias=bias, requantize=table)


def _graph(nodes, shape=(3,), kind=INT8):
    return ir.Graph("g", "x", shape, kind, tuple(nodes), nodes[-1].name)


def test_activation_is_the_mean_size_in_units_of_the_largest():
    table = ir.Requantize([1], [0], ir.TensorType(8, False, zero_point=10))
    graph = _graph([_dense("a", "x", [[1, 0, 0], [0, 2, 0]], table)])
    x = np.array([[5, -3, 9], [-7, 10, 9]])

    found = activations(Propagation(graph, x))["a"]

    sizes = np.array([[5, 6], [7, 20]])
    assert np.allclose(found, sizes / 20)
    total = criticality.score(graph, x, "activation")["a"]
    assert np.allclose(total, sizes.mean(axis=0) / sizes.mean(axis=0).sum())


def test_contribution_splits_relevance_by_the_terms():
    table = ir.Requantize([1], [0], INT8)
    graph = _graph(
        [_dense("a", "x", np.eye(3, dtype=int), table), _dense("b", "a", [[3, -1, 2], [0, 1, 0]])]
    )
    x = np.array([[2, -6, 4]])  # a = x; b = 6 + 6 + 8 and -6: class 0

    found = contributions(Propagation(graph, x))

    assert np.allclose(found["b"], [[1, 0]])
    assert np.allclose(found["a"], [[6 / 20, 6 / 20, 8 / 20]])


def test_class_oriented_takes_the_class_that_needs_it_most():
    values = np.array([[1.0, 4.0], [3.0, 0.0], [0.0, 1.0]])

    found = class_oriented(values, np.array([7, 7, 2]))

    assert found.tolist() == [2.0, 2.0]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_relevance_is_kept_by_every_operator(random_graph, random_input, seed):
    """In a chain every tensor holds what the next one passes on, unless a sum has no terms."""
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, MOVES | {"Pad", "ArgMax"})
    run = Propagation(graph, random_input(rng, graph, 3))

    found = _relevance(run, slice(None))

    for values in found.values():
        sums = values.reshape(3, -1).sum(axis=1)
        assert (values >= 0).all()
        assert (sums < 1 + 1e-9).all()
    for node in graph:
        if isinstance(node, ir.MaxPool | ir.Flatten) and len(graph.consumers(node.inputs[0])) == 1:
            passed = found[node.name].reshape(3, -1).sum(axis=1)
            assert np.allclose(found[node.inputs[0]].reshape(3, -1).sum(axis=1), passed)


def test_relevance_of_a_grouped_convolution_equals_its_definition():
    rng = np.random.default_rng(4)
    node = ir.Conv2d(
        name="c",
        inputs=("x",),
        weight=rng.integers(-8, 8, (6, 3, 2, 2)),
        bias=rng.integers(-5, 5, 6),
        stride=(2, 1),
        padding=(1, 0, 1, 1),
        groups=2,
    )
    flat = ir.Flatten(name="f", inputs=("c",))
    graph = _graph([node, flat], (5, 4, 4))
    x = rng.integers(-20, 20, (1, 5, 4, 4))
    run = Propagation(graph, x)

    found = _relevance(run, slice(None))["x"][0]

    winner = int(run.top1[0])
    row, column, channel = np.unravel_index(winner, run.golden["c"].shape[1:])
    terms = np.zeros((5, 4, 4))
    for i in range(3):
        for j in range(2):
            y, z = row * 2 - 1 + i, column + j
            if 0 <= y < 5 and 0 <= z < 4:
                group = slice(2 * (channel // 3), 2 * (channel // 3) + 2)
                terms[y, z, group] = np.abs(node.weight[channel, i, j] * x[0, y, z, group])
    assert np.allclose(found, terms / terms.sum())


def test_an_add_splits_by_its_rescaled_operands():
    table = ir.Requantize([1], [0], INT8)
    nodes = [
        _dense("a", "x", np.eye(3, dtype=int), table),
        _dense("b", "x", 2 * np.eye(3, dtype=int), table),
        ir.Add(name="s", inputs=("a", "b"), multipliers=(3, 1), shift=0, out=INT8),
        _dense("fc", "s", [[1, 1, 1], [-1, -1, -1]]),
    ]
    x = np.array([[4, 2, 1]])

    found = contributions(Propagation(_graph(nodes), x))

    assert np.allclose(found["a"].sum() / found["b"].sum(), 3 / 2)


def test_taylor_equals_the_gradient_of_two_layers():
    """a dL/da by finite differences of the logits, where nothing is clamped."""
    table = ir.Requantize([1], [1], ir.TensorType(8, True))
    graph = _graph(
        [
            _dense("a", "x", [[2, 4, 0], [0, 2, -2]], table),
            _dense("b", "a", [[1, -2], [3, 1], [0, 1]]),
        ]
    )
    x = np.array([[5, 3, 2], [-4, 6, 8]])

    found = taylor(Propagation(graph, x))

    values = reference.execute(graph, x)
    logits, top1 = values["b"], values["b"].argmax(axis=1)
    unit = logits.std(axis=1).mean()
    soft = np.exp((logits - logits.max(axis=1, keepdims=True)) / unit)
    soft /= soft.sum(axis=1, keepdims=True)
    slope = (soft - np.eye(3)[top1]) / unit
    assert np.allclose(found["b"], np.abs(logits * slope))
    assert np.allclose(found["a"], np.abs(values["a"] * (slope @ graph.nodes[1].weight)))


def test_taylor_is_zero_behind_a_clamp():
    table = ir.Requantize([1], [0], UINT4)  # 0..15: a ReLU that also saturates
    graph = _graph(
        [
            _dense("a", "x", np.eye(3, dtype=int), ir.Requantize([1], [0], INT8)),
            _dense("b", "a", np.eye(3, dtype=int), table),
            _dense("c", "b", [[1, 2, 3], [3, 1, 2]]),
        ]
    )

    found = taylor(Propagation(graph, np.array([[-5, 7, 90]])))["a"][0]

    assert found[1] > 0
    assert found[0] == found[2] == 0


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    name=st.sampled_from((*criticality.SCORES[:4], "msb", "combined")),
)
def test_any_graph_has_scores_that_sum_to_one(random_graph, random_input, seed, name):
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)
    x = random_input(rng, graph, 4)

    found = criticality.score(graph, x, name)

    linear = {n.name: n.out_channels for n in graph if isinstance(n, ir.Conv2d | ir.Dense)}
    assert {layer: len(values) for layer, values in found.items()} == linear
    total = sum(values.sum() for values in found.values())
    assert total == pytest.approx(1) or total == 0
    assert all((values >= 0).all() for values in found.values())


def _two_layers(kind):
    rng = np.random.default_rng(0)
    table = ir.Requantize([300], [12], kind)
    graph = _graph(
        [
            _dense("a", "x", rng.integers(-8, 8, (6, 3)), table),
            _dense("b", "a", rng.integers(-8, 8, (4, 6))),
        ]
    )
    return graph, rng.integers(-128, 128, (20, 3))


@pytest.mark.parametrize("kind", [UINT4, INT8])
def test_msb_is_the_share_of_images_whose_class_changes(kind):
    graph, x = _two_layers(kind)

    found = criticality.msb_scores(graph, x, seed=0)

    values, hidden = reference.execute(graph, x), graph.nodes[1]
    golden = values["b"].argmax(axis=1)
    top = 1 << (kind.bits - 1)
    for neuron in range(6):
        faulty = values["a"].copy()
        word = (faulty[:, neuron] % (2 * top)) ^ top
        faulty[:, neuron] = np.where(kind.signed & (word >= top), word - 2 * top, word)
        changed = ((faulty @ hidden.weight.T).argmax(axis=1) != golden).mean()
        assert found["a"][neuron] == pytest.approx(changed)
    assert found["a"].max() > 0


def test_ranks_are_those_of_the_whole_network():
    found = ranks({"a": np.array([0.1, 0.5]), "b": np.array([0.5, 0.9, 0.0])})

    assert found["a"].tolist() == [2, 3.5]
    assert found["b"].tolist() == [3.5, 5, 1]


def test_combined_is_the_larger_rank():
    graph, x = _two_layers(INT8)
    found = criticality.score(graph, x, "combined")

    network = ranks(criticality.score(graph, x, "contribution"))
    single = ranks(criticality.score(graph, x, "class"))
    larger = {name: np.maximum(network[name], single[name]) for name in network}
    total = sum(values.sum() for values in larger.values())
    for name, values in larger.items():
        assert np.allclose(found[name], values / total)


@pytest.mark.parametrize(
    ("name", "images", "words"), [("size", 1, "one of"), ("class", 0, "images")]
)
def test_bad_scores_are_refused(name, images, words):
    graph, x = _two_layers(INT8)

    with pytest.raises(InputError, match=words):
        criticality.score(graph, x[:images], name)


def test_scores_see_the_argmax_at_the_end():
    graph, x = _two_layers(INT8)
    ended = dataclasses.replace(
        graph, nodes=(*graph.nodes, ir.ArgMax(name="top", inputs=("b",))), output="top"
    )

    for name in criticality.SCORES[:4]:
        plain, with_argmax = (criticality.score(g, x, name) for g in (graph, ended))
        assert all(np.allclose(plain[layer], with_argmax[layer]) for layer in plain)
