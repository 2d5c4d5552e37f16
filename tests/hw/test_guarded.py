"""Codes of streams and weights, guarded registers: the same frames in the same cycles, and upsets.

Every register that a setting protects is struck; what leaves is right, or flagged in time.
"""

import dataclasses

import numpy as np
import pytest
from amaranth.lib import memory

from tercet.hw.config import inlet
from tercet.hw.configure import Fold, Protection, configure
from tercet.hw.timing import recurrence
from tercet.quant import ir, reference

FRAMES = 3
SECDED = Protection(stream="secded", weights="secded", post="tmr", control="tmr")
PARITY = Protection(stream="parity", weights="parity", post="parity", control="tmr")
TWIN = Protection(stream="residue", weights="secded", post="dup", control="tmr")


@pytest.fixture(scope="module")
def networks(helper):
    """The module tests/hw/networks.py."""
    return helper("hw", "networks")


def frames(rng, graph, count=FRAMES):
    kind, shape = graph.input_type, (count, *graph.input_shape)
    if kind.bipolar:
        return rng.choice([-1, 1], shape)
    return rng.integers(kind.lo, kind.hi + 1, shape)


def check_frames(bench, networks, seed, make):
    rng = np.random.default_rng(seed)
    graph, folding, protection = make(rng)
    layers = configure(graph, folding, networks.harden(rng.spawn(1)[0], graph, protection))
    plain = configure(graph, folding, protection)
    x = frames(rng, graph)
    want = reference.run(graph, x).reshape(FRAMES, -1)

    for stalls in (None, seed):
        run, found = bench.run_network(layers, x.reshape(FRAMES, -1), seed=stalls)

        np.testing.assert_array_equal(found, want)
        if stalls is None:
            assert tuple(run.last_cycles) == recurrence(plain, FRAMES).last_beat_cycles


@pytest.mark.parametrize("seed", [1, 4])
def test_networks_compute_the_same_in_the_same_cycles(bench, networks, seed):
    check_frames(
        bench, networks, seed, networks.random_network if seed % 2 else networks.random_dag
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20, 60))
def test_more_networks_compute_the_same_in_the_same_cycles(bench, networks, seed):
    check_frames(
        bench, networks, seed, networks.random_network if seed % 2 else networks.random_dag
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_broad_networks_compute_the_same_in_the_same_cycles(bench, networks, seed):
    check_frames(bench, networks, seed, networks.broad_network)


def small(op):
    """A graph of one or two layers, its folding."""
    rng = np.random.default_rng(5)
    act = ir.TensorType(3, False, 1)
    scale = ir.Requantize(rng.integers(400, 900, 2), np.full(2, 11), ir.TensorType(3, False))
    fields = {"weight": rng.integers(-4, 4, (2, 4)), "bias": np.arange(2), "weight_bits": 3}
    steps = ir.Thresholds(np.array([[-6, 0, 7]]), ir.TensorType(2, False))
    shape, fold = (4,), Fold(2, 2)
    if op in ("requantize", "drain"):
        nodes = (ir.Dense(name="d", inputs=("x",), requantize=scale, **fields),)
        fold = fold if op == "requantize" else Fold(2, 1, "dsp2")
    elif op == "thresholds":
        nodes = (ir.Dense(name="d", inputs=("x",), requantize=steps, **fields),)
    elif op == "maxpool":
        shape = (2, 3, 2)
        nodes = (
            ir.MaxPool(name="d", inputs=("x",), kernel=(2, 2), stride=(1, 1), padding=(0, 1, 0, 0)),
        )
        fold = Fold(2, 2)
    elif op == "avgpool":
        shape, one = (2, 2, 2), dataclasses.replace(scale, multiplier=scale.multiplier * 2)
        nodes = (ir.GlobalAvgPool(name="d", inputs=("x",), requantize=one),)
    elif op == "argmax":
        nodes = (ir.ArgMax(name="d", inputs=("x",)),)
    elif op == "add":
        sum_ = {"multipliers": (3, 5), "shift": 3, "out": ir.TensorType(3, False)}
        nodes = (ir.Add(name="d", inputs=("x", "x"), **sum_),)
    elif op == "concat":
        one = ir.Requantize(np.array([3]), np.array([1]), act)
        nodes = (ir.Concat(name="d", inputs=("x", "x"), requantize=[None, one], out=act),)
    else:
        shape = (1, 2, 2)
        nodes = (ir.Pad(name="d", inputs=("x",), padding=(0, 1, 0, 1)),)
    graph = ir.Graph("g", "x", shape, act, nodes, "d")
    return graph, {"d": fold if op not in ("add", "concat", "pad") else Fold(2)}


LAYERS = (
    "requantize",
    "drain",
    "thresholds",
    "maxpool",
    "avgpool",
    "argmax",
    "add",
    "concat",
    "pad",
)
ROLES = {"activation", "weight", "requant", "fifo"}


GAP = 5
"""Frames between two upsets: what one does is over before the next."""


class Row:
    """A word of a memory in place of a register."""

    def __init__(self, row):
        self.row = row

    def as_unsigned(self):
        return self.row

    def __len__(self):
        return len(self.row)


@pytest.fixture
def words(monkeypatch):
    """The words of the memories that are made during the test."""
    made, make = [], memory.Memory.__init__

    def record(self, *args, **options):
        make(self, *args, **options)
        made.extend(Row(self.data[i]) for i in range(self.depth))

    monkeypatch.setattr(memory.Memory, "__init__", record)
    return made


def struck(registers, linear):
    """Registers that a protection covers: a lane's own are a checksum's."""
    roles = ROLES if linear else ROLES | {"accumulator"}
    found = [r for r in registers if r.attrs["role"] in roles]
    return found + [r for r in registers if linear and r.name == "results"]


def strike_all(bench, targets, op, guard, most, *, back=False):
    """(wrong frames without a flag, wrong frames with one) over upsets of `targets()`.

    `back`: two frames later the same bit is flipped once more.
    """
    graph, folding = small(op)
    layers = configure(graph, folding, {"d": guard})
    rng = np.random.default_rng(1)
    interval = recurrence(layers, 4).initiation_interval
    count = most * GAP
    x = frames(rng, graph, count)
    want = reference.run(graph, x).reshape(count, -1)

    def upsets():
        bits = [(target, bit) for target in targets() for bit in range(len(target))]
        places = [bits[i % len(bits)] for i in rng.permutation(max(most, len(bits)))[:most]]
        at = [(GAP * i + 2) * interval + int(rng.integers(interval)) for i in range(most)]
        pairs = list(zip(places, at, strict=True))
        again = [bench.Upset(*place, cycle + 2 * interval) for place, cycle in pairs if back]
        return [bench.Upset(*place, cycle) for place, cycle in pairs] + again

    run, found = bench.run_network(layers, x.reshape(count, -1), upsets=upsets, limit=10**6)
    assert run.landed == most * (1 + back)
    assert not run.hung
    lanes, wrong = layers[-1].out_lanes, found != want
    firsts = [int(np.flatnonzero(row)[0]) // lanes if row.any() else None for row in wrong]
    flags = [
        any(err[: first + 1])
        for first, err in zip(firsts, run.err, strict=True)
        if first is not None
    ]
    return flags.count(False), flags.count(True)


def strike_registers(bench, registers, op, guard, most):
    linear = op in ("requantize", "drain", "thresholds")
    return strike_all(bench, lambda: struck(registers, linear), op, guard, most)


@pytest.mark.parametrize("op", LAYERS)
@pytest.mark.parametrize("guard", [TWIN, SECDED], ids=["twin", "secded"])
def test_upsets_are_flagged_or_outvoted(bench, registers, op, guard):
    silent, flagged = strike_registers(bench, registers, op, guard, most=30)

    assert silent == 0
    assert guard is not SECDED or flagged == 0


@pytest.mark.slow
@pytest.mark.parametrize("op", LAYERS)
@pytest.mark.parametrize("guard", [PARITY, TWIN, SECDED], ids=["parity", "twin", "secded"])
def test_many_upsets_are_flagged_or_outvoted(bench, registers, op, guard):
    silent, flagged = strike_registers(bench, registers, op, guard, most=1000)

    assert silent == 0
    assert (flagged == 0) == (guard is SECDED)


@pytest.mark.parametrize("op", ["drain", "maxpool", "add"])
@pytest.mark.parametrize("guard", [PARITY, SECDED], ids=["parity", "secded"])
def test_upsets_of_memories_are_flagged_or_corrected(bench, words, op, guard):
    silent, flagged = strike_all(bench, lambda: words, op, guard, most=30, back=True)

    assert silent == 0
    assert guard is not SECDED or flagged == 0


def test_without_protection_the_same_upsets_pass(bench, registers):
    silent, flagged = strike_registers(bench, registers, "requantize", Protection(), most=40)

    assert silent > 0
    assert flagged == 0


def test_the_input_is_as_wide_as_without_codes():
    graph, folding = small("requantize")
    plain, coded = (configure(graph, folding, {"d": guard}) for guard in (Protection(), SECDED))

    assert inlet(coded) == inlet(plain)
    assert coded[0].operand_bits[0] > plain[0].operand_bits[0]
