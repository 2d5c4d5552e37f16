"""Layers unrolled into shift-adds: equal to the reference, to the cycle, flags, bad foldings."""

import dataclasses

import numpy as np
import pytest

from tercet.hw.config import CLAIM_CYCLES
from tercet.hw.configure import Fold, Protection, configure
from tercet.hw.shift_config import ShiftConfig
from tercet.hw.timing import initiation_interval, recurrence
from tercet.quant import ir, reference
from tercet.quant.errors import InputError
from tercet.sim.expected import random_frames

BYTE = ir.TensorType(8, True)
CLAMP = ir.Requantize(np.array([1]), np.array([6]), ir.TensorType(6, False))
SIGNED = ir.Requantize(np.array([1]), np.array([4]), ir.TensorType(6, True, zero_point=-3))
SCALE = ir.Requantize(np.array([700]), np.array([15]), ir.TensorType(6, False))
BOUND = ir.Requantize(
    np.array([1]), np.array([5]), ir.TensorType(6, False), bound=np.array([20]), bound_kind="zero"
)
STEPS = ir.Thresholds(
    np.sort(np.arange(42).reshape(6, 7) * 9 - 200, axis=1), ir.TensorType(3, False)
)


def dense(name, source, shape, requantize, seed=0, limit=128):
    rng = np.random.default_rng(seed)
    weight = rng.integers(-limit, limit, shape)
    weight[0] = 0  # a neuron that never answers
    return ir.Dense(
        name=name, inputs=(source,), weight=weight, bias=rng.integers(-90, 90, shape[0]),
        requantize=requantize,
    )  # fmt: skip


def perceptron(requantize=CLAMP, kind=BYTE):
    """Dense 9 -> 6 -> 4, and its folding."""
    nodes = (dense("a", "x", (6, 9), requantize), dense("b", "a", (4, 6), None, 1))
    graph = ir.Graph("mlp", "x", (9,), kind, nodes, "b")
    return graph, {"a": Fold(6, 9, "shift"), "b": Fold(4, 6, "shift")}


def convolution(**fields):
    """Convolution 3 x 2 over 4 x 5 x 2 pixels, and its folding."""
    rng = np.random.default_rng(5)
    groups = fields.get("groups", 1)
    node = ir.Conv2d(
        name="a", inputs=("x",), weight=rng.integers(-128, 128, (4, 3, 2, 2 // groups)),
        bias=rng.integers(-90, 90, 4), requantize=SCALE, **fields,
    )  # fmt: skip
    graph = ir.Graph("cnn", "x", (4, 5, 2), ir.TensorType(5, True, zero_point=4), (node,), "a")
    return graph, {"a": Fold(4, 12 // groups, "shift")}


def frames(graph, count=8):
    kind = graph.input_type
    values = [-1, 1] if kind.bipolar else np.arange(kind.lo, kind.hi + 1)
    return np.random.default_rng(2).choice(values, (count, *graph.input_shape))


def check(bench, network, guard=None, *, seed=None, count=8, **options):
    """The run and its layers, after the output was found equal to the reference's."""
    graph, folding = network
    layers = configure(graph, folding, dict.fromkeys(folding, guard or Protection()))
    x = frames(graph, count)
    run, found = bench.run_network(layers, x, seed=seed, **options)
    assert (found == reference.run(graph, x).reshape(count, -1)).all()
    return run, layers


@pytest.mark.parametrize("seed", [None, 1, 2])
@pytest.mark.parametrize("kind", [BYTE, ir.TensorType(7, False), ir.TensorType(3, True, 2)])
@pytest.mark.parametrize("requantize", [CLAMP, SIGNED, SCALE, BOUND, STEPS])
def test_a_network_of_shift_adds(bench, requantize, kind, seed):
    check(bench, perceptron(requantize, kind), seed=seed)


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize(
    "fields", [{}, {"padding": (1, 1, 0, 0)}, {"stride": (2, 1)}, {"groups": 2}]
)
def test_a_convolution_of_shift_adds(bench, fields, seed):
    check(bench, convolution(**fields), seed=seed, count=3)


def test_a_frame_a_cycle_through_the_whole_network(bench):
    run, layers = check(bench, perceptron())

    assert initiation_interval(layers) == 1
    assert np.diff(run.last_cycles).tolist() == [1] * 7


@pytest.mark.parametrize("guard", [Protection(), Protection(7), Protection(None, (), "parity")])
@pytest.mark.parametrize("network", [perceptron(), perceptron(SCALE), convolution()])
def test_the_cycles_are_those_of_the_recurrence(bench, network, guard):
    run, layers = check(bench, network, guard)

    assert tuple(run.last_cycles) == recurrence(layers, 8).last_beat_cycles


@pytest.mark.parametrize(("pe", "simd"), [(1, 6), (2, 3), (4, 1)])
def test_a_slower_layer_behind_holds_the_words_back(bench, pe, simd):
    graph, folding = perceptron()
    run, layers = check(bench, (graph, {**folding, "b": Fold(pe, simd)}))

    assert tuple(run.last_cycles) == recurrence(layers, 8).last_beat_cycles
    assert run.last_cycles[-1] - run.last_cycles[-2] == max(4 // pe * 6 // simd, CLAIM_CYCLES)


def test_a_slower_layer_in_front_feeds_it_as_it_can(bench):
    graph, folding = perceptron()
    run, layers = check(bench, (graph, {**folding, "a": Fold(2, 3)}))

    assert tuple(run.last_cycles) == recurrence(layers, 8).last_beat_cycles


def test_bipolar_elements_are_read_as_one_bit(bench):
    graph, folding = perceptron(SCALE, ir.TensorType(1, True, bipolar=True))

    check(bench, (graph, folding), seed=4)


def test_padding_widens_the_range_of_the_elements():
    plain, padded = (
        configure(*convolution(**fields))[0] for fields in ({}, {"padding": (1, 1, 0, 0)})
    )

    assert plain.graph.highs[0] == padded.graph.highs[0] == 31
    assert not padded.direct


def test_the_range_before_a_layer_spares_bits():
    narrow = ir.Requantize(np.array([1]), np.array([6]), ir.TensorType(6, False), hi=9)
    wide, spared = (configure(*perceptron(kind))[1] for kind in (CLAMP, narrow))

    assert spared.graph.adder_bits < wide.graph.adder_bits
    assert spared.acc_bits < wide.acc_bits


@pytest.mark.parametrize("modulus", [3, 255])
def test_a_checksum_flags_wrong_sums(bench, registers, modulus):
    graph, folding = perceptron()
    guard = {"a": Protection(modulus)}
    layers = configure(graph, {"a": folding["a"], "b": folding["b"]}, guard)
    x, rng, wrong = frames(graph), np.random.default_rng(modulus), 0
    truth = reference.run(graph, x)
    for _ in range(12):
        cycle = int(rng.integers(4, 20))

        def draw(cycle=cycle):
            made = [r for r in registers if r.attrs["role"] == "accumulator"]
            one = [r for r in made if r.attrs["layer"] == "a"][-1 - int(rng.integers(4))]
            return [bench.Upset(one, int(rng.integers(len(one))), cycle)]

        run, found = bench.run_network(layers, x, upsets=draw)
        frames_wrong = (found != truth).any(axis=1)
        wrong += frames_wrong.any()
        assert not (frames_wrong & ~np.array(run.flagged)).any()
    assert wrong


def test_a_flagged_word_flags_its_frame_only(bench):
    graph = ir.Graph("one", "x", (9,), BYTE, (dense("a", "x", (6, 9), CLAMP),), "a")
    run, _ = check(bench, (graph, {"a": Fold(6, 9, "shift")}), flag=(3, 0))

    assert run.flagged == [frame == 3 for frame in range(8)]


def test_a_reset_starts_afresh(bench):
    check(bench, perceptron(), reset_after=5)


@pytest.mark.parametrize(
    ("fold", "guard", "match"),
    [
        (Fold(3, 9, "shift"), Protection(), "layer a: .* set pe = 6 and simd = 9"),
        (Fold(6, 3, "shift"), Protection(), "layer a: .* set pe = 6 and simd = 9"),
        (Fold(6, 9, "shift"), Protection(None, (1,)), "layer a: .* cannot be tripled"),
        (Fold(6, 9, "adder"), Protection(), "a: multiplier 'adder' is not dsp, dsp2, lut, shift"),
    ],
)
def test_what_cannot_be_unrolled_is_refused(fold, guard, match):
    graph, folding = perceptron()

    with pytest.raises(InputError, match=match):
        configure(graph, {**folding, "a": fold}, {"a": guard})


@pytest.mark.parametrize("seed", range(300, 312))
def test_random_networks_with_some_layers_unrolled(bench, random_network, seed):
    rng = np.random.default_rng(seed)
    graph, folding, protection = random_network(rng)
    unrolled = 0
    for node in graph:
        if isinstance(node, ir.Conv2d | ir.Dense) and rng.random() < 0.7:
            folding[node.name] = Fold(node.out_channels, node.weight[0].size, "shift")
            guard = protection.get(node.name, Protection())
            protection[node.name] = dataclasses.replace(guard, neurons=())
            unrolled += 1
    layers, x = configure(graph, folding, protection), random_frames(graph, 4, seed)
    truth = reference.run(graph, x).reshape(4, -1)
    run, found = bench.run_network(layers, x)
    _, stalled = bench.run_network(layers, x, seed=seed)

    assert (found == truth).all()
    assert (stalled == truth).all()
    assert tuple(run.last_cycles) == recurrence(layers, 4).last_beat_cycles
    assert sum(isinstance(layer, ShiftConfig) for layer in layers) == unrolled
