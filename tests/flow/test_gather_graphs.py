"""Gathering through branches: tied layers choose jointly, Concat, Pad and groups are block-wise."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.flow.passes.channel_ties import channel_ties
from tercet.flow.passes.gather_neurons import Wanted, gather_neurons
from tercet.quant import ir, reference
from tercet.sim.expected import random_frames

KIND = ir.TensorType(5, False, 2)
RNG = np.random.default_rng(4)


def table(channels):
    return ir.Requantize(RNG.integers(900, 2500, channels), np.full(channels, 14), KIND)


def conv(name, source, channels, inputs, groups=1):
    return ir.Conv2d(
        name=name, inputs=(source,), weight=RNG.integers(-8, 8, (channels, 1, 2, inputs // groups)),
        bias=RNG.integers(-9, 9, channels), weight_bits=4, groups=groups,
        padding=(0, 0, 0, 1), requantize=table(channels),
    )  # fmt: skip


def add(name, *sources):
    return ir.Add(name=name, inputs=sources, multipliers=(3, 5), shift=3, out=KIND)


def concat(name, *sources, channels=()):
    tables = tuple(table(n) for n in channels) or (None,) * len(sources)
    return ir.Concat(name=name, inputs=sources, requantize=tables, out=KIND)


def graph(*nodes, inputs=4):
    """Four pixels; two logits behind the last of `nodes`."""
    shape = (2, 2, inputs)
    body = ir.Graph("g", "x", shape, KIND, nodes, nodes[-1].name)
    last = reference.execute(body, np.full((1, *shape), 2))[nodes[-1].name].shape[1:]
    flat = ir.Flatten(name="flat", inputs=(nodes[-1].name,))
    weight = RNG.integers(-8, 8, (2, int(np.prod(last))))
    fc = ir.Dense(name="fc", inputs=("flat",), weight=weight, bias=np.zeros(2, int), weight_bits=4)
    return dataclasses.replace(body, nodes=(*nodes, flat, fc), output="fc")


def units(wanted, order):
    """Hardened lanes and passes of all layers together."""
    found = set()
    for name, want in wanted.items():
        for neuron in want.neurons:
            place = neuron
            if name in order:
                place = int(np.flatnonzero(order[name] == neuron)[0])
            found.add((name, place // want.pe if want.temporal else place % want.pe))
    return found


def check(net, wanted, seed=0):
    """Every tensor is the old one in the returned order; no more is hardened than before."""
    moved, order = gather_neurons(net, wanted)
    x = random_frames(net, 3, seed)
    before, after = reference.execute(net, x), reference.execute(moved, x)
    for node in net:
        expected = before[node.name]
        if node.name in order:
            assert sorted(order[node.name]) == list(range(expected.shape[-1]))
            expected = expected[..., order[node.name]]
        assert (after[node.name] == expected).all(), node.name
    kept = {net.output, *(node.inputs[0] for node in net if isinstance(node, ir.ArgMax))}
    assert not kept & set(order)
    assert len(units(wanted, order)) <= len(units(wanted, {}))
    return order


def test_the_branches_of_a_sum_choose_together():
    net = graph(conv("a", "x", 8, 4), conv("b", "a", 8, 8), add("s", "a", "b"))
    wanted = {"a": Wanted((1, 6), 2), "b": Wanted((6, 3), 2)}

    order = check(net, wanted)

    assert order["a"].tolist() == order["b"].tolist() == order["s"].tolist()
    assert len(units(wanted, {})) == 4
    assert len(units(wanted, order)) == 2  # 6, 1 and 3 share one lane of each


def test_the_dearer_layer_of_a_tied_class_is_served_first():
    net = graph(conv("a", "x", 4, 4), conv("b", "x", 4, 4), add("s", "a", "b"))
    wanted = {"a": Wanted((0, 1), 2, cost=1), "b": Wanted((0, 1, 2), 2, temporal=True, cost=50)}

    for first, second in (("a", "b"), ("b", "a")):
        net_order = check(net, {first: wanted[first], second: wanted[second]})
        assert len({k for k in units(wanted, net_order) if k[0] == "b"}) == 2

    wanted = {"a": Wanted((0, 3), 2, cost=9), "b": Wanted((0, 2), 2, cost=1)}
    order = check(net, wanted)
    assert len({k for k in units(wanted, order) if k[0] == "a"}) == 1


def test_depthwise_pool_and_spatial_pad_follow():
    pad = ir.Pad(name="pad", inputs=("a",), padding=(1, 0, 0, 1))
    pool = ir.AvgPool(
        name="pool", inputs=("pad",), kernel=(2, 2), stride=(1, 1), requantize=table(6)
    )
    deep = conv("deep", "pool", 6, 6, groups=6)
    net = graph(conv("a", "x", 6, 4), pad, pool, deep)
    wanted = {"a": Wanted((0, 1), 2), "deep": Wanted((0, 1, 3), 3)}

    order = check(net, wanted)

    same = [order[name].tolist() for name in ("a", "pad", "pool", "deep")]
    assert same == [same[0]] * 4
    assert {name for name, _ in units(wanted, order)} == {"a", "deep"}
    assert len(units(wanted, order)) == 3


def test_a_concatenation_permutes_inside_the_blocks_of_its_operands():
    net = graph(
        conv("a", "x", 4, 4), conv("b", "x", 6, 4), concat("c", "a", "b", channels=(4, 6)),
        conv("d", "c", 4, 10),
    )  # fmt: skip
    wanted = {"a": Wanted((0, 3), 2), "b": Wanted((1, 5), 3)}

    order = check(net, wanted)

    assert order["c"].tolist() == [*order["a"], *(4 + order["b"])]
    assert len(units(wanted, order)) == 2


def test_a_sum_of_concatenations_ties_their_operands():
    net = graph(
        conv("a", "x", 3, 4), conv("b", "x", 5, 4), conv("e", "x", 8, 4),
        concat("c", "a", "b"), add("s", "c", "e"), concat("t", "s", "s"), conv("d", "t", 2, 16),
    )  # fmt: skip

    runs = channel_ties(net).runs
    order = check(net, {"e": Wanted((0, 1, 4), 1, cost=1), "b": Wanted((1, 0), 5)})

    assert [(run.start, run.size) for run in runs["e"]] == [(0, 3), (3, 5)]
    assert [run.block for run in runs["e"]] == [runs["a"][0].block, runs["b"][0].block]
    assert [run.block for run in runs["t"]] == [run.block for run in runs["e"]] * 2
    assert not order  # nothing to win: one lane, and a lane for each neuron


def test_padded_channels_are_blocks_of_their_own():
    pad = ir.Pad(name="pad", inputs=("a",), channels=(2, 1))
    net = graph(conv("a", "x", 4, 4), pad, conv("d", "pad", 4, 7))

    order = check(net, {"a": Wanted((0, 3), 2)})

    assert order["pad"].tolist() == [0, 1, *(2 + order["a"]), 6]


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_groups_of_maker_and_reader_bound_the_moves(groups):
    net = graph(conv("a", "x", 8, 4, groups=2), conv("b", "a", 4, 8, groups=groups))
    size = 8 // max(2, groups)

    order = check(net, {"a": Wanted((0, 1, 5), 4), "b": Wanted((0,), 4)}).get("a", np.arange(8))

    assert (order // size == np.arange(8) // size).all()


def test_what_is_added_to_the_input_stays():
    net = graph(conv("a", "x", 4, 4), add("s", "a", "x"), conv("b", "s", 4, 4))

    assert check(net, {"a": Wanted((0, 3), 2)}) == {}
    assert set(check(net, {"a": Wanted((0, 3), 2), "b": Wanted((0, 3), 2)})) == {"b", "flat"}


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_graph_keeps_its_tensors(random_graph, seed):
    rng = np.random.default_rng(seed)
    net = random_graph(rng, max_channels=9, max_steps=7)
    wanted = {}
    for node in net:
        if isinstance(node, ir.Conv2d | ir.Dense) and rng.random() < 0.8:
            count = node.out_channels
            pe = int(rng.choice([d for d in range(1, count + 1) if count % d == 0]))
            chosen = rng.permutation(count)[: rng.integers(1, count + 1)]
            wanted[node.name] = Wanted(
                tuple(chosen.tolist()), pe, bool(rng.random() < 0.4), float(rng.integers(1, 9))
            )

    check(net, wanted, seed % 1000)


def test_random_graphs_do_move(random_graph):
    moved = joined = 0
    for seed in range(300):
        net = random_graph(np.random.default_rng(seed), max_channels=9, max_steps=7)
        wanted = {
            node.name: Wanted((0, 1), 2)
            for node in net
            if isinstance(node, ir.Conv2d | ir.Dense) and node.out_channels in (4, 6, 8)
        }
        order = check(net, wanted, seed) if wanted else {}
        moved += bool(order)
        joined += any(isinstance(net.node(name), ir.Add | ir.Concat) for name in order)
    assert moved >= 10
    assert joined >= 3
