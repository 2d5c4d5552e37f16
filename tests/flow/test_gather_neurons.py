"""Permuted channels: chosen neurons share lanes or passes, logits as before, readers follow."""

import dataclasses

import numpy as np
import pytest

from tercet.flow.passes.gather_neurons import Wanted, gather_neurons
from tercet.quant import ir, reference


def lanes_of(order, chosen, pe):
    """Lanes that hold the chosen neurons."""
    return {int(np.flatnonzero(order == n)[0]) % pe for n in chosen}


def wanted(chosen, lanes):
    return {name: Wanted(tuple(found), lanes.get(name, 1)) for name, found in chosen.items()}


def check(graph, chosen, lanes, x):
    """The pass keeps the output; every tensor is the old one in the new order."""
    moved, order = gather_neurons(graph, wanted(chosen, lanes))
    before, after = reference.execute(graph, x), reference.execute(moved, x)
    assert (before[graph.output] == after[graph.output]).all()
    for node in graph:
        expected = before[node.name]
        if node.name in order:
            expected = expected[..., order[node.name]]
        assert (after[node.name] == expected).all(), node.name
    return moved, order


def test_chosen_neurons_share_the_lowest_lane(small):
    chosen = {"conv": (1, 3), "hidden": (4, 5)}

    _, order = check(small.graph(), chosen, {"conv": 3, "hidden": 2}, small.frames(6))

    assert lanes_of(order["conv"], chosen["conv"], 3) == {0}
    assert lanes_of(order["hidden"], chosen["hidden"], 2) == {0}
    assert sorted(order["conv"]) == list(range(6))


def test_chosen_neurons_share_passes_in_time(small):
    wanted = {"conv": Wanted((0, 3), 2, temporal=True)}

    _, order = gather_neurons(small.graph(), wanted)

    assert {int(np.flatnonzero(order["conv"] == n)[0]) // 2 for n in (0, 3)} == {0}


@pytest.mark.parametrize("pe", [1, 2, 3, 6])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_chosen_take_as_few_lanes_as_they_can(small, pe, count):
    chosen = tuple(np.random.default_rng(pe + count).permutation(6)[:count].tolist())

    _, order = check(small.graph(), {"conv": chosen}, {"conv": pe}, small.frames(2))

    where = order.get("conv", np.arange(6))
    assert len(lanes_of(where, chosen, pe)) == -(-count * pe // 6)


def test_pool_and_flatten_pass_the_order_on(small):
    _, order = check(small.graph(), {"conv": (5, 3)}, {"conv": 3}, small.frames(2))

    assert set(order) == {"conv", "pool", "flat"}
    assert order["pool"].tolist() == order["conv"].tolist()
    assert order["flat"].tolist() == [p * 6 + c for p in range(2) for c in order["conv"]]


def test_logits_and_input_keep_their_order(small):
    moved, order = check(small.graph(), {"logits": (3,)}, {"logits": 2}, small.frames(2))

    assert order == {}
    assert moved.node("logits").weight.tolist() == small.graph().node("logits").weight.tolist()


def test_logits_before_argmax_keep_their_order(small):
    graph = small.graph()
    best = ir.ArgMax(name="best", inputs=("logits",))
    graph = dataclasses.replace(graph, nodes=(*graph.nodes, best), output="best")

    chosen = {"logits": (3,), "conv": (4, 5)}
    _, order = check(graph, chosen, {"logits": 2, "conv": 2}, small.frames(2))

    assert "logits" not in order


def test_nothing_chosen_changes_nothing(small):
    graph = small.graph()

    moved, order = gather_neurons(graph, {"conv": Wanted((), 2)})

    assert order == {}
    assert moved is graph


def test_neurons_that_are_in_place_already_stay(small):
    graph = small.graph()
    moved, order = gather_neurons(graph, {"conv": Wanted((4, 5), 3)})
    inverse = np.argsort(order["conv"])

    again, order_again = gather_neurons(moved, {"conv": Wanted(tuple(inverse[[4, 5]]), 3)})

    assert order_again == {}
    assert again.node("conv").weight.tolist() == moved.node("conv").weight.tolist()


def grouped(groups_first, groups_second):
    """Two convolutions with groups, an average with a table per channel, a global average."""
    rng = np.random.default_rng(8)
    out = ir.TensorType(5, False)

    def table(channels):
        return ir.Requantize(rng.integers(900, 2500, channels), np.full(channels, 14), out)

    first = ir.Conv2d(
        name="a", inputs=("x",), weight=rng.integers(-8, 8, (12, 2, 2, 4 // groups_first)),
        bias=rng.integers(-9, 9, 12), weight_bits=4, groups=groups_first,
        requantize=dataclasses.replace(table(12), bound=rng.integers(5, 32, 12)),
    )  # fmt: skip
    average = ir.AvgPool(
        name="p", inputs=("a",), kernel=(2, 1), stride=(1, 1), requantize=table(12)
    )
    second = ir.Conv2d(
        name="b", inputs=("p",), weight=rng.integers(-8, 8, (6, 1, 2, 12 // groups_second)),
        bias=rng.integers(-9, 9, 6), weight_bits=4, groups=groups_second, requantize=table(6),
    )  # fmt: skip
    mean = ir.GlobalAvgPool(name="m", inputs=("b",), requantize=table(6))
    last = ir.Dense(
        name="fc", inputs=("m",), weight=rng.integers(-8, 8, (3, 6)), bias=np.zeros(3, int)
    )
    nodes = (first, average, second, mean, last)
    return ir.Graph("g", "x", (4, 4, 4), ir.TensorType(4, False, 3), nodes, "fc")


@pytest.mark.parametrize(("first", "second"), [(1, 1), (2, 1), (1, 3), (2, 3), (4, 6)])
def test_channels_move_inside_their_groups_only(first, second):
    graph = grouped(first, second)
    x = np.random.default_rng(0).integers(0, 16, (4, 4, 4, 4))
    rng = np.random.default_rng(first * second)
    chosen = {"a": tuple(rng.permutation(12)[:4].tolist()), "b": (5, 0)}

    _, order = check(graph, chosen, {"a": 12 // first // 3, "b": 6 // second}, x)

    for name, size in (("a", 12 // first), ("a", 12 // second), ("b", 6 // second)):
        if name in order:
            assert (order[name] // size == np.arange(len(order[name])) // size).all()
