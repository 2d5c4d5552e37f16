"""Operand FIFOs of joins: deep enough never to cost a cycle, and no deeper."""

import dataclasses

import numpy as np
import pytest

from tercet.hw.config import INPUT
from tercet.hw.configure import Fold, configure
from tercet.hw.join_config import JoinConfig
from tercet.hw.skips import fit_skips
from tercet.hw.timing import Network, recurrence
from tercet.quant import ir, reference

FRAMES = 6
KIND = ir.TensorType(4, False)
SCALE = ir.Requantize(np.array([1]), np.array([4]), KIND)


def convolution(name, source, channels, kernel=3):
    """Same size, same channels."""
    rng = np.random.default_rng(len(name))
    weight = rng.integers(-8, 8, (channels, kernel, kernel, channels))
    pad = (kernel - 1) // 2
    return ir.Conv2d(
        name=name, inputs=(source,), weight=weight, bias=np.zeros(channels, int), weight_bits=4,
        padding=(pad,) * 4, requantize=SCALE,
    )  # fmt: skip


def residual(channels=2, size=6):
    """Two convolutions beside an identity."""
    nodes = (
        convolution("c1", "x", channels),
        convolution("c2", "c1", channels),
        ir.Add(name="sum", inputs=("c2", "x"), multipliers=(1, 1), shift=1, out=KIND),
    )
    return ir.Graph("residual", "x", (size, size, channels), KIND, nodes, "sum")


def dense_block(channels=2, size=5):
    """A convolution whose result is joined to its operand, twice."""
    nodes = (
        convolution("c1", "x", channels),
        ir.Concat(name="cat1", inputs=("x", "c1"), requantize=(None, None), out=KIND),
        convolution("c2", "cat1", 2 * channels, kernel=1),
        ir.Concat(name="cat2", inputs=("cat1", "c2"), requantize=(None, SCALE), out=KIND),
    )
    return ir.Graph("dense", "x", (size, size, channels), KIND, nodes, "cat2")


CASES = {
    "residual": (residual(), {"c1": Fold(2, 6), "c2": Fold(1, 9), "sum": Fold(2)}),
    "residual, one lane": (residual(), {"c1": Fold(1, 2), "c2": Fold(2, 2)}),
    "dense": (dense_block(), {"c1": Fold(2, 2), "c2": Fold(4, 4), "cat1": Fold(2)}),
}


def shallower(layers, name, port):
    """The layers with room for one word less in front of an operand."""
    found = []
    for layer in layers:
        if layer.name == name:
            operands = list(layer.operands)
            depth = operands[port].depth - 1
            operands[port] = dataclasses.replace(operands[port], depth=depth)
            layer = dataclasses.replace(layer, operands=tuple(operands))
        found.append(layer)
    return tuple(found)


def frames(graph, count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 16, (count, *graph.input_shape))


@pytest.mark.parametrize("case", CASES)
def test_the_interval_is_that_of_the_slowest_layer(bench, case):
    graph, folding = CASES[case]
    layers = configure(graph, folding)
    x = frames(graph, FRAMES)

    run, found = bench.run_network(layers, x)

    assert (found == reference.run(graph, x).reshape(FRAMES, -1)).all()
    assert tuple(run.last_cycles) == recurrence(layers, FRAMES).last_beat_cycles
    slowest = max(layer.cycles_per_frame for layer in layers)
    assert np.diff(run.last_cycles)[-1] == slowest


@pytest.mark.parametrize("case", CASES)
def test_one_word_less_loses_throughput_or_hangs(bench, case):
    graph, folding = CASES[case]
    layers = configure(graph, folding)
    x = frames(graph, FRAMES)
    interval = recurrence(layers, FRAMES).initiation_interval

    tried = 0
    for layer in layers:
        for port, operand in enumerate(getattr(layer, "operands", ())):
            if operand.depth == 1:
                continue  # there is no FIFO without a word
            run, _ = bench.run_network(shallower(layers, layer.name, port), x)
            assert run.hung or np.diff(run.last_cycles)[-1] > interval
            tried += 1
    assert tried


@pytest.mark.parametrize("seed", range(8))
def test_random_stalls_never_hang_a_join(bench, seed):
    graph, folding = list(CASES.values())[seed % len(CASES)]
    x = frames(graph, 3, seed)

    _, found = bench.run_network(configure(graph, folding), x, seed=seed)

    assert (found == reference.run(graph, x).reshape(3, -1)).all()


def test_too_little_room_for_the_other_branch_hangs(bench):
    graph, folding = CASES["residual"]
    layers = tuple(
        dataclasses.replace(
            layer, operands=tuple(dataclasses.replace(o, depth=2) for o in layer.operands)
        )
        if isinstance(layer, JoinConfig)
        else layer
        for layer in configure(graph, folding)
    )

    assert bench.run_network(layers, frames(graph, 2))[0].hung
    assert not Network(layers, 2).solve(latest=10_000)


def test_a_chain_needs_no_fifo():
    graph = ir.Graph("g", "x", (6, 6, 2), KIND, (convolution("c", "x", 2),), "c")
    layers = configure(graph, {"c": Fold(2, 6)})

    assert fit_skips(layers) == layers
    assert layers[0].sources == (INPUT,)
