# amaranth: UnusedElaboratable=no
"""Lanes that share multipliers: exact for every operand, in step with single lanes, and checked."""

import dataclasses
import itertools

import numpy as np
import pytest
from amaranth.sim import Simulator

from tercet.hw.configure import Fold, Protection, configure
from tercet.hw.packed import PackedProducts
from tercet.hw.pairs import codes, half_bits, high_bits, lane_pairs
from tercet.hw.site import Site
from tercet.hw.timing import recurrence
from tercet.quant import ir, reference

STRUCK = 7
"""A cycle in which the layer of six elements has a product."""

SCALE = ir.Requantize(np.array([700]), np.array([15]), ir.TensorType(6, False))
SHIFT = ir.Requantize(np.array([1]), np.array([6]), ir.TensorType(6, True))


def dense(name, source, weight, weight_bits, requantize=None):
    bias = np.random.default_rng(len(weight)).integers(-90, 90, len(weight))
    return ir.Dense(
        name=name, inputs=(source,), weight=weight, weight_bits=weight_bits, bias=bias,
        requantize=requantize, weight_bipolar=weight_bits == 1,
    )  # fmt: skip


def layer_of(weight, weight_bits, kind, fold, guard=None, requantize=None):
    """One dense layer."""
    nodes = (dense("a", "x", np.asarray(weight), weight_bits, requantize),)
    graph = ir.Graph("g", "x", (len(weight[0]),), kind, nodes, "a")
    return graph, configure(graph, {"a": fold}, {"a": guard or Protection()})


def limits(bits, *, signed):
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("weight_bits", range(2, 9))
@pytest.mark.parametrize("act_bits", range(1, 9))
def test_halves_hold_every_product(act_bits, weight_bits, signed):
    """Both products and the sum with the constant at all corners; products are monotonic."""
    kind = ir.TensorType(act_bits, signed, bipolar=False) if act_bits > 1 or not signed else None
    if kind is None:
        return  # one signed bit is bipolar: nothing is multiplied
    _, (layer,) = layer_of(np.ones((4, 2), int), weight_bits, kind, Fold(2, 1, "dsp2"))
    k = half_bits(layer)
    corners = [
        x * w
        for x, w in itertools.product(
            limits(act_bits, signed=signed), limits(weight_bits, signed=True)
        )
    ]
    most = (1 << (weight_bits - 1)) << k  # |wa 2^k + wb| at its largest, less wb

    assert min(corners) >= -(1 << (k - 1))
    assert max(corners) < 1 << (k - 1)
    assert most + (1 << (weight_bits - 1)) <= 1 << (k + weight_bits)
    assert k + weight_bits + 1 <= 25  # and x, unsigned with a sign, in 18


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("act_bits", "weight_bits"), [(2, 2), (3, 3), (4, 2), (2, 4), (5, 3)])
def test_every_element_times_every_pair_of_weights(act_bits, weight_bits, signed):
    low, high = limits(weight_bits, signed=True)
    pairs = np.array([*itertools.product(range(low, high + 1), repeat=2)])
    kind = ir.TensorType(act_bits, signed)
    _, (layer,) = layer_of(pairs.T, weight_bits, kind, Fold(2, 1, "dsp2"))
    first, last = limits(act_bits, signed=signed)
    check_products(layer, pairs, range(first, last + 1))


@pytest.mark.parametrize("signed", [False, True])
def test_the_corners_of_eight_bits(signed):
    values = [-128, -127, -1, 0, 1, 126, 127]
    pairs = np.array([*itertools.product(values, repeat=2)])
    _, (layer,) = layer_of(pairs.T, 8, ir.TensorType(8, signed), Fold(2, 1, "dsp2"))
    first, last = limits(8, signed=signed)
    check_products(layer, pairs, [first, first + 1, -1 if signed else 128, 0, 1, last - 1, last])


def check_products(layer, pairs, elements):
    """The unit's products are those of Python for each element and each word of its ROM."""
    unit, bits = PackedProducts(layer, (0, 1), Site("a")), half_bits(layer)

    def value(word):
        return word - ((word >> (bits - 1)) << bits)

    async def bench(ctx):
        for x in elements:
            ctx.set(unit.act, x & ((1 << layer.act_bits) - 1))
            for step, (wa, wb) in enumerate(pairs.tolist()):
                ctx.set(unit.address, step)
                await ctx.tick().repeat(3 if layer.block_weights else 2)
                assert value(ctx.get(unit.high)) == x * wa, (x, wa, wb)
                assert value(ctx.get(unit.low)) == x * wb, (x, wa, wb)

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_a_borrow_below_the_smallest_weight_takes_a_bit_more():
    kind = ir.TensorType(8, False)
    plain = layer_of([[-128, 3], [5, 6], [-127, 1], [-9, -9]], 8, kind, Fold(2, 1, "dsp2"))[1][0]
    corner = layer_of([[-128, 3], [-1, 6], [1, 1], [9, 9]], 8, kind, Fold(2, 1, "dsp2"))[1][0]

    assert (high_bits(plain), high_bits(corner)) == (8, 9)
    assert codes(corner, (0, 1))[1].min() == -129


@pytest.mark.parametrize(
    ("pe", "group", "replicated", "pairs"),
    [
        (4, 4, (), ((0, 1), (2, 3))),
        (5, 5, (), ((0, 1), (2, 3))),
        (6, 3, (), ((0, 1), (3, 4))),
        (5, 5, (0,), ((1, 2), (3, 4))),
        (4, 4, (1,), ((0, 2),)),
        (2, 2, (0, 1), ()),
        (3, 1, (), ()),
    ],
)
def test_lanes_of_a_group_are_paired_and_replicas_left_out(pe, group, replicated, pairs):
    assert lane_pairs(pe, group, replicated) == pairs


def test_nothing_is_shared_where_nothing_is_multiplied():
    one_bit = ir.TensorType(1, True, bipolar=True)
    signs = np.where(np.random.default_rng(0).integers(0, 2, (4, 6)), 1, -1)
    bipolar_act = layer_of(signs, 4, one_bit, Fold(2, 1, "dsp2"))[1][0]
    bipolar_weight = layer_of(signs, 1, ir.TensorType(4, False), Fold(2, 1, "dsp2"))[1][0]
    constant = layer_of(signs, 4, ir.TensorType(4, False), Fold(4, 6, "dsp2"))[1][0]

    assert bipolar_act.pairs == bipolar_weight.pairs == constant.pairs == ()


def test_lanes_that_are_no_pair_are_refused():
    _, (layer,) = layer_of(np.ones((4, 2), int), 4, ir.TensorType(4, False), Fold(4, 1, "dsp2"))

    with pytest.raises(
        ValueError, match=r"pair must be one of \(\(0, 1\), \(2, 3\)\), not \(1, 2\)"
    ):
        PackedProducts(layer, (1, 2), Site("a"))


def network(seed):
    """Convolution (grouped now and then), dense, dense; weights with corners; and a folding."""
    rng = np.random.default_rng(seed)
    bits = int(rng.choice([3, 5, 8]))
    kind = ir.TensorType(int(rng.choice([2, 5, 8])), bool(rng.integers(2)))
    groups = int(rng.choice([1, 2]))

    def weights(*shape):
        low, high = limits(bits, signed=True)
        found = rng.integers(low, high + 1, shape)
        found[rng.random(shape) < 0.2] = low
        return found

    conv = ir.Conv2d(
        name="conv", inputs=("x",), weight=weights(6, 2, 2, 4 // groups), weight_bits=bits,
        bias=rng.integers(-50, 50, 6), requantize=SCALE, groups=groups, padding=(1, 0, 0, 1),
    )  # fmt: skip
    nodes = (
        conv,
        ir.Flatten(name="flat", inputs=("conv",)),
        dense("fc", "flat", weights(7, 72), bits, SHIFT),
        dense("out", "fc", weights(4, 7), bits),
    )
    graph = ir.Graph("g", "x", (4, 3, 4), kind, nodes, "out")
    pe = int(rng.choice([3, 6] if groups == 2 else [2, 3, 6]))
    simd = 8 // groups if pe == 6 and groups == 2 else int(rng.choice([1, 2]))
    weights_in = str(rng.choice(["auto", "block"]))
    folding = {
        "conv": Fold(pe, simd, "dsp2", weights_in),
        "fc": Fold(7, int(rng.choice([1, 6, 9])), "dsp2"),
        "out": Fold(2, 1, "dsp2"),
    }
    low, high = kind.lo, kind.hi
    return graph, folding, rng.integers(low, high + 1, (4, *graph.input_shape))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("stalls", [None, 1])
def test_random_networks_are_exact(bench, seed, stalls):
    graph, folding, x = network(seed)
    layers = configure(graph, folding)
    run, found = bench.run_network(layers, x, seed=stalls)

    assert any(layer.pairs for layer in layers)
    assert (found == reference.run(graph, x).reshape(len(x), -1)).all()
    if stalls is None:
        assert tuple(run.last_cycles) == recurrence(layers, len(x)).last_beat_cycles


@pytest.mark.parametrize("seed", range(4))
def test_the_cycles_are_those_of_single_lanes(seed):
    graph, folding, x = network(seed)
    single = {name: dataclasses.replace(fold, multiplier="dsp") for name, fold in folding.items()}
    timings = [recurrence(configure(graph, one), len(x)) for one in (folding, single)]

    assert timings[0] == timings[1]


@pytest.mark.parametrize(
    "guard",
    [Protection(3), Protection(255, (), "parity"), Protection(7, (0, 3)), Protection(None, (2,))],
)
def test_packed_lanes_beside_checksum_and_replicas(bench, guard):
    graph, folding, x = network(2)
    guards = dict.fromkeys(folding, guard)
    layers = configure(graph, folding, guards)
    run, found = bench.run_network(layers, x, seed=5)

    assert (found == reference.run(graph, x).reshape(len(x), -1)).all()
    assert not any(run.flagged)


@pytest.mark.parametrize("bit", [0, 6, 7, 8, 13, 15])
def test_an_upset_product_is_flagged_by_the_checksum(bench, registers, bit):
    """The flip landed in either half; without the checksum the result is wrong and not flagged."""
    rng = np.random.default_rng(3)
    weight, kind = rng.integers(-8, 8, (4, 6)), ir.TensorType(4, False)
    x = rng.integers(0, 16, (1, 6))
    found = {}
    for modulus in (None, 3):
        graph, (layer,) = layer_of(weight, 4, kind, Fold(4, 2, "dsp2"), Protection(modulus))
        registers.clear()

        def strike():
            shared = [one for one in registers if one.attrs["role"] == "product" and len(one) == 16]
            return [bench.Upset(shared[0], bit, STRUCK)]

        run, out = bench.run_network((layer,), x, upsets=strike)
        assert run.landed == 1
        found[modulus] = (bool((out != reference.run(graph, x)).any()), run.flagged[0])

    assert found == {None: (True, False), 3: (True, True)}
