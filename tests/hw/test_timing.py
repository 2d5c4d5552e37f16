"""The recurrence against measured cycles; buffer depths that are enough, and no larger."""

import dataclasses
import itertools

import numpy as np
import pytest

from tercet.hw.config import INPUT
from tercet.hw.configure import Fold, configure
from tercet.hw.linear_config import LinearConfig
from tercet.hw.timing import Timing, initiation_interval, recurrence, sized
from tercet.quant import ir, reference
from tercet.sim.expected import random_frames

FRAMES = 4


def inputs(rng, graph, frames):
    return random_frames(graph, frames, int(rng.integers(1 << 30)))


def expected(graph, x):
    return reference.run(graph, x).reshape(len(x), -1)


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("kind", ["random_network", "random_dag"])
def test_a_random_network_takes_the_cycles_of_the_recurrence(bench, request, kind, seed):
    rng = np.random.default_rng(seed)
    graph, folding, protection = request.getfixturevalue(kind)(rng)
    layers = configure(graph, folding, protection)
    x = inputs(rng, graph, FRAMES)

    run, found = bench.run_network(layers, x)

    assert (found == expected(graph, x)).all()
    assert tuple(run.last_cycles) == recurrence(layers, FRAMES).last_beat_cycles


@pytest.mark.parametrize("seed", range(100, 112))
def test_a_random_network_survives_idle_and_back_pressure(bench, random_network, seed):
    rng = np.random.default_rng(seed)
    graph, folding, protection = random_network(rng)
    x = inputs(rng, graph, 3)

    _, found = bench.run_network(configure(graph, folding, protection), x, seed=seed)

    assert (found == expected(graph, x)).all()


@pytest.mark.parametrize("seed", range(300, 400))
def test_the_closed_form_is_the_interval_of_the_recurrence(random_network, seed):
    graph, folding, protection = random_network(np.random.default_rng(seed))
    layers = configure(graph, folding, protection)

    assert recurrence(layers, 6).initiation_interval == initiation_interval(layers)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("height", [12, 23, 31, 45, 70, 140])
def test_a_frame_much_larger_than_the_buffer_is_not_read_early(bench, height, kernel):
    """Positions wrap within the frame: its end may be told from near only."""
    weight = np.random.default_rng(height).integers(-8, 8, (2, kernel, kernel, 2))
    pad = kernel // 2
    node = ir.Conv2d(
        name="c", inputs=("x",), weight=weight, bias=np.zeros(2, int), weight_bits=4,
        padding=(pad,) * 4,
    )  # fmt: skip
    graph = ir.Graph("g", "x", (height, 3, 2), ir.TensorType(4, True), (node,), "c")
    layers = configure(graph, {"c": Fold(2, 2 * kernel)})
    x = inputs(np.random.default_rng(0), graph, 3)

    run, found = bench.run_network(layers, x)
    _, stalled = bench.run_network(layers, x, seed=1)

    assert (found == expected(graph, x)).all()
    assert (stalled == expected(graph, x)).all()
    assert tuple(run.last_cycles) == recurrence(layers, 3).last_beat_cycles


def test_a_converter_between_widths_that_do_not_divide_can_be_the_slowest(bench):
    """Three lanes to words of two: four cycles for every six elements."""
    out = ir.Requantize(np.array([1]), np.array([2]), ir.TensorType(4, False))
    weight, bias = np.ones((6, 1, 1, 1), int), np.zeros(6, int)
    nodes = (
        ir.Conv2d(name="c", inputs=("x",), weight=weight, bias=bias, requantize=out),
        ir.MaxPool(name="p", inputs=("c",), kernel=(1, 1), stride=(1, 1)),
    )
    graph = ir.Graph("g", "x", (4, 4, 1), ir.TensorType(4, False), nodes, "p")
    layers = configure(graph, {"c": Fold(3, 1), "p": Fold(2)})
    x = inputs(np.random.default_rng(0), graph, 4)

    run, _ = bench.run_network(layers, x)

    assert max(layer.cycles_per_frame for layer in layers) == 48
    assert initiation_interval(layers) == np.diff(run.last_cycles)[-1] == 64


def test_of_two_spacings_that_alternate_the_larger_is_the_interval():
    assert Timing((9, 19, 30, 40, 51), {}).initiation_interval == 11
    assert Timing((9, 19, 30, 40, 51), {}).spacings == (10, 11)
    assert Timing((9, 19), {}).initiation_interval == 10


def test_random_networks_cover_every_operator_with_a_circuit(random_network):
    drawn = [random_network(np.random.default_rng(seed)) for seed in range(24)]

    kinds = {type(node) for graph, _, _ in drawn for node in graph}
    guards = [guard for _, _, protection in drawn for guard in protection.values()]
    assert kinds == {
        ir.Conv2d, ir.Dense, ir.MaxPool, ir.AvgPool, ir.GlobalAvgPool, ir.Flatten, ir.ArgMax,
    }  # fmt: skip
    assert {guard.modulus for guard in guards} == {None, 3, 7, 15, 255}
    assert any(guard.neurons and guard.modulus for guard in guards)
    assert {guard.control for guard in guards} == {"none", "parity"}


def test_random_networks_cover_few_bits(random_network):
    drawn = [random_network(np.random.default_rng(seed)) for seed in range(24)]

    layers = [layer for each in drawn for layer in configure(*each)]
    linear = [layer for layer in layers if isinstance(layer, LinearConfig)]
    steps = [layer for layer in linear if isinstance(layer.requantize, ir.Thresholds)]
    assert {layer.out_bits for layer in steps} == {1, 2, 3, 4}
    assert {layer.modulus is None for layer in steps} == {True, False}
    assert {layer.beats > 1 for layer in steps} == {True, False}
    operands = {(layer.act_bipolar, layer.weight_bipolar) for layer in linear}
    assert operands == {(a, w) for a in (False, True) for w in (False, True)}
    assert any(layer.out_bipolar for layer in linear)
    assert any(any(layer.window.place_bits) for layer in layers)


A_WINDOW_A_CYCLE = Fold(2, 18)


def convolution(fold=A_WINDOW_A_CYCLE):
    """A folded convolution over 6 x 6 pixels."""
    weight, bias = np.ones((2, 3, 3, 2), int), np.zeros(2, int)
    node = ir.Conv2d(name="c", inputs=("x",), weight=weight, bias=bias, padding=(1, 1, 1, 1))
    graph = ir.Graph("g", "x", (6, 6, 2), ir.TensorType(4, False), (node,), "c")
    return configure(graph, {"c": fold})


def half(layer):
    """The layer with half the buffer."""
    window = dataclasses.replace(layer.window, depth=layer.window.depth // 2)
    return dataclasses.replace(layer, window=window)


def test_a_smaller_buffer_loses_throughput(bench):
    scale = ir.Requantize(np.array([10923]), np.array([16]), ir.TensorType(4, False))
    node = ir.GlobalAvgPool(name="mean", inputs=("x",), requantize=scale)
    graph = ir.Graph("g", "x", (3, 2, 3), ir.TensorType(4, False), (node,), "mean")
    (layer,) = configure(graph, {"mean": Fold(3)})
    x = np.random.default_rng(0).integers(0, 16, (5, 3, 2, 3))

    whole, _ = bench.run_network((layer,), x)
    less, found = bench.run_network((half(layer),), x)

    assert np.diff(whole.last_cycles)[-1] == layer.cycles_per_frame
    assert np.diff(less.last_cycles)[-1] > layer.cycles_per_frame
    assert tuple(less.last_cycles) == recurrence((half(layer),), 5).last_beat_cycles
    assert (found == expected(graph, x)).all()


@pytest.mark.parametrize("seed", range(400, 410))
def test_a_buffer_beyond_a_window_and_a_row_is_needed(random_network, seed):
    graph, folding, _ = random_network(np.random.default_rng(seed))

    for each in configure(graph, folding):
        layer = dataclasses.replace(each, sources=(INPUT,))
        assert recurrence((layer,), 5).initiation_interval == layer.cycles_per_frame
        if layer.window.depth > layer.window.least_depth:
            assert recurrence((half(layer),), 5).initiation_interval > layer.cycles_per_frame


def test_sizing_a_sized_layer_changes_nothing():
    (layer,) = convolution()

    assert sized(layer).window == layer.window


def test_more_lanes_take_fewer_cycles():
    slow, fast = (recurrence(convolution(fold=Fold(2, simd))) for simd in (2, 18))

    assert fast.initiation_interval < slow.initiation_interval
    assert fast.latency_cycles < slow.latency_cycles


def test_layers_report_when_their_own_frames_end(random_network):
    graph, folding, _ = random_network(np.random.default_rng(3))
    layers = configure(graph, folding)

    timing = recurrence(layers, 3)
    ends = [timing.layers[layer.name] for layer in layers]
    assert ends[-1] == timing.last_beat_cycles
    assert timing.latency_cycles == timing.last_beat_cycles[0]
    assert all(a[f] < b[f] for a, b in itertools.pairwise(ends) for f in range(3))


def test_no_frame_has_no_timing():
    with pytest.raises(ValueError, match="frames must be >= 1, not 0"):
        recurrence(convolution(), 0)
