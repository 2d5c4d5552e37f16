# amaranth: UnusedElaboratable=no
"""Residues for every modulus, the checksum lane, and the proof that no single flip escapes."""

import itertools

import numpy as np
import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.sim import Simulator

from tercet.hw.checksum import ChecksumLane, residue
from tercet.hw.config import CHECK_CYCLES, MODULI
from tercet.hw.configure import Fold, Protection, configure
from tercet.hw.site import Site
from tercet.quant import ir


def residues(shapes, modulus, rows):
    """`residue` of the sums of `rows`, values of signals of `shapes`, in the simulator."""
    m = Module()
    values = [Signal(shape, name=f"value_{i}") for i, shape in enumerate(shapes)]
    out = residue(m, [(v, v.shape().signed) for v in values], modulus, "sum")
    found = []

    async def testbench(ctx):
        for row in rows:
            for value, number in zip(values, row, strict=True):
                ctx.set(value, number)
            found.append(ctx.get(out))

    sim = Simulator(m)
    sim.add_testbench(testbench)
    sim.run()
    return found


@pytest.mark.parametrize("modulus", MODULI)
@pytest.mark.parametrize("width", [2, 3, 5, 9])
def test_a_residue_of_every_value(modulus, width):
    for shape, low in ((width, 0), (signed(width), -(1 << (width - 1)))):
        values = range(low, low + (1 << width))

        found = residues([shape], modulus, [(v,) for v in values])

        assert found == [v % modulus for v in values]


@pytest.mark.parametrize("modulus", MODULI)
def test_a_residue_of_every_sum_of_three(modulus):
    rows = list(itertools.product(range(4), range(-4, 4), range(-2, 2)))

    assert residues([2, signed(3), signed(2)], modulus, rows) == [sum(r) % modulus for r in rows]


@pytest.mark.parametrize("modulus", MODULI)
def test_a_residue_of_wide_values(modulus):
    edge = 1 << 30
    rng = np.random.default_rng(modulus)
    rows = [tuple(int(v) for v in rng.integers(-edge, edge, 4)) for _ in range(200)]
    rows += list(itertools.product((-edge, -1, 0, edge - 1), repeat=4))

    assert residues([signed(31)] * 4, modulus, rows) == [sum(row) % modulus for row in rows]


@pytest.mark.parametrize("modulus", MODULI)
def test_no_flip_of_a_bit_keeps_the_residue(modulus):
    """2^k mod 2^r - 1 is a power of two below the modulus: never 0, at any width."""
    width = 10
    for value in range(-(1 << (width - 1)), 1 << (width - 1)):
        for bit in range(width):
            raw = (value ^ 1 << bit) & ((1 << width) - 1)
            flipped = raw - (raw >> (width - 1) << width)
            assert (flipped - value) % modulus


@pytest.mark.parametrize("modulus", [1, 2, 4, 5, 8, 254, None])
def test_other_moduli_are_refused(modulus):
    with pytest.raises(ValueError, match=rf"modulus must be one of .*, not {modulus}"):
        ChecksumLane(layer(modulus), Site("fc"))


def layer(modulus, fold=None, features=4, neurons=4):
    rng = np.random.default_rng(1)
    node = ir.Dense(
        name="fc",
        inputs=("x",),
        weight=rng.integers(-4, 4, (neurons, features)),
        bias=rng.integers(-9, 9, neurons),
        weight_bits=3,
    )
    graph = ir.Graph("g", "x", (features,), ir.TensorType(2, False, 1), (node,), "fc")
    return configure(graph, {"fc": fold or Fold(2, 2)}, {"fc": Protection(modulus)})[0]


def datapath(registers):
    return [r for r in registers if r.attrs["role"] in ("product", "accumulator")]


@pytest.mark.parametrize("modulus", MODULI)
@pytest.mark.parametrize("fold", [Fold(2, 1), Fold(4, 4), Fold(2, 2, "lut")], ids=str)
def test_every_flip_of_product_and_accumulator_is_seen(bench, registers, modulus, fold):
    """Each bit of each register in each cycle of a frame, one upset in every second frame."""
    config = layer(modulus, fold)
    interval = config.cycles_per_frame

    def upsets():
        bits = [(r, bit) for r in datapath(registers) for bit in range(len(r))]
        places = enumerate(itertools.product(bits, range(interval)))
        return [
            bench.Upset(register, bit, (2 * n + 4) * interval + cycle)
            for n, ((register, bit), cycle) in places
        ]

    x = np.random.default_rng(0).integers(0, 4, (1, 4)).repeat(900, axis=0)
    run, found = bench.run_network((config,), x, upsets=upsets)

    wrong = (found != found[0]).any(axis=1)
    # The guard bit is seen and leaves with no result.
    guard_bits = sum(-(-len(r) // config.acc_bits) for r in datapath(registers))
    assert run.landed == interval * sum(len(r) for r in datapath(registers))
    assert run.landed < len(x) / 2 - 4
    assert wrong.sum() > run.landed / 4
    flagged = np.array(run.flagged)
    assert not (wrong & ~flagged).any()
    assert flagged.sum() - wrong.sum() <= guard_bits * interval


def test_a_flip_of_the_checksum_lane_itself_changes_no_result(bench, registers):
    config = layer(7, Fold(2, 1))
    interval = config.cycles_per_frame

    def upsets():
        checkers = [r for r in registers if r.attrs["role"] == "checker"]
        return [bench.Upset(r, 0, (3 * n + 4) * interval) for n, r in enumerate(checkers)]

    x = np.random.default_rng(0).integers(0, 4, (1, 4)).repeat(120, axis=0)
    run, found = bench.run_network((config,), x, upsets=upsets)

    assert run.landed > 10
    assert (found == found[0]).all()
    assert any(run.flagged)


def test_the_checksum_lane_costs_no_throughput_and_its_latency_is_known(bench):
    x = np.random.default_rng(0).integers(0, 4, (3, 4))
    plain, checked = layer(None, Fold(4, 4)), layer(255, Fold(4, 4))

    before, _ = bench.run_network((plain,), x)
    after, _ = bench.run_network((checked,), x)

    assert np.diff(before.last_cycles).tolist() == np.diff(after.last_cycles).tolist()
    assert after.last_cycles[0] - before.last_cycles[0] == checked.commit_cycles == CHECK_CYCLES
