"""The threshold unit against the reference: every value of small accumulators, tables, latency."""

import numpy as np
import pytest
from amaranth.hdl import Fragment
from amaranth.sim import Simulator

from tercet.hw.config import requantize_cycles
from tercet.hw.requantize import Requantizer, requantizer
from tercet.hw.site import Site
from tercet.hw.threshold import Threshold
from tercet.hw.threshold_ranks import threshold_ranks
from tercet.quant import ir, reference

BIPOLAR = ir.TensorType(1, True, bipolar=True)


def decode(kind, q):
    """Stored words as values of the output type."""
    if kind.out.bipolar:
        return 2 * q - 1
    return q - ((q >> (kind.out.bits - 1)) << kind.out.bits) if kind.out.signed else q


def stream(kind, channels, acc, index, bits):
    """q of a value a cycle, as long behind its value as `cycles` says."""
    unit = Threshold(kind, channels, bits, Site("fc", 0))
    found = []

    async def testbench(ctx):
        for cycle in range(len(acc) + unit.cycles):
            # The table is looked up one cycle before its value arrives.
            ctx.set(unit.index, int(index[min(cycle, len(acc) - 1)]))
            if 0 < cycle <= len(acc):
                ctx.set(unit.acc, int(acc[cycle - 1]))
            await ctx.tick()
            found.append(ctx.get(unit.q))

    sim = Simulator(unit)
    sim.add_clock(1e-8)
    sim.add_testbench(testbench)
    sim.run()
    return decode(kind, np.array(found[unit.cycles :]))


def truth(kind, channels, acc, index):
    chosen = np.asarray(channels)[index]
    count = max(len(kind.values), max(channels) + 1)
    rows = np.zeros((len(acc), count), dtype=np.int64)
    rows[np.arange(len(acc)), chosen] = acc
    return reference.thresholds(kind, rows)[np.arange(len(acc)), chosen]


def check(kind, channels=(0,), bits=6, seed=0):
    """Every value of an accumulator of `bits` bits for every table index, in random order."""
    edge = 1 << (bits - 1)
    grid = np.meshgrid(np.arange(-edge, edge), np.arange(len(channels)), indexing="ij")
    acc, index = (axis.ravel() for axis in grid)
    order = np.random.default_rng(seed).permutation(len(acc))
    acc, index = acc[order], index[order]
    expected = truth(kind, list(channels), acc, index)

    assert stream(kind, list(channels), acc, index, bits).tolist() == expected.tolist()


def table(rng, out, channels, reach):
    """Ascending thresholds, now and then equal or beyond the accumulator."""
    values = np.sort(rng.integers(-reach, reach + 1, (channels, (1 << out.bits) - 1)), axis=1)
    return ir.Thresholds(values, out)


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_every_accumulator_of_six_bits(bits, signed):
    out = BIPOLAR if signed and bits == 1 else ir.TensorType(bits, signed)
    rng = np.random.default_rng(bits)
    for reach in (10, 33, 60):
        check(table(rng, out, 1, reach))
        check(table(rng, out, 5, reach), (4, 0, 3, 1))


@pytest.mark.parametrize("threshold", [-33, -32, -31, 0, 31, 32, 33, 1 << 40, -(1 << 40)])
@pytest.mark.parametrize("out", [ir.TensorType(1, False), BIPOLAR], ids=["bit", "bipolar"])
def test_one_threshold_anywhere(out, threshold):
    check(ir.Thresholds([[threshold]], out))
    check(ir.Thresholds([[threshold], [0]], out), (0, 1))


def test_all_thresholds_of_two_bits():
    """Every ascending row over an accumulator of three bits, ends and equal neighbours included."""
    out, rows = ir.TensorType(2, False), []
    for a in range(-5, 6):
        rows += [(a, b, c) for b in range(a, 6) for c in range(b, 6)]

    check(ir.Thresholds(rows, out), tuple(range(len(rows))), bits=3)


@pytest.mark.parametrize("out_bits", [2, 4])
def test_a_wide_accumulator(out_bits):
    rng, bits = np.random.default_rng(1), 33
    kind = table(rng, ir.TensorType(out_bits, True), 3, 1 << 31)
    near = (kind.values[:, :, None] + np.arange(-1, 2)).reshape(3, -1)
    index = np.repeat(np.arange(3), near.shape[1])
    acc = np.concatenate([near.ravel(), [-(1 << 32), (1 << 32) - 1]])
    index = np.concatenate([index, [0, 2]])

    found = stream(kind, [0, 1, 2], acc, index, bits)
    assert found.tolist() == truth(kind, [0, 1, 2], acc, index).tolist()
    assert len(set(found.tolist())) == 1 << out_bits


def test_each_bit_takes_one_cycle_and_one_comparator():
    for bits in (1, 2, 3, 4):
        kind = ir.Thresholds([range((1 << bits) - 1)], ir.TensorType(bits, False))

        assert requantize_cycles(kind) == bits
        assert [rank.table.shape for rank in threshold_ranks(kind, [0], 9)] == [
            (1, 1 << rank) for rank in range(bits)
        ]


def test_registers_are_as_wide_as_their_thresholds(registers):
    kind = ir.Thresholds([[-3, 1, 5], [-3, 4, 5]], ir.TensorType(2, False))
    check(kind, (0, 1))

    found = {register.name: len(register) for register in registers}
    # Rank 0 holds 1 or 4, rank 1 -3 or 5 for all channels: no index.
    assert found == {"threshold_0": 4, "threshold_1": 4, "acc_1": 6, "found_1": 1, "result": 2}
    assert {register.attrs["role"] for register in registers} == {"requant"}


def test_channels_that_share_a_row_need_no_table(registers):
    check(ir.Thresholds([[-3, 1, 5], [0, 0, 0], [-3, 1, 5]], ir.TensorType(2, False)), (0, 2))

    assert not any("index" in register.name for register in registers)
    assert "threshold_0" not in {register.name for register in registers}


def test_a_threshold_out_of_reach_is_clamped():
    kind = ir.Thresholds([[-(1 << 40), 3, 1 << 40]], ir.TensorType(2, False))

    outer = threshold_ranks(kind, [0], 6)[1]
    assert outer.table.tolist() == [[-32, 32]]
    assert outer.bits == 7


def test_the_unit_follows_from_the_table():
    scale = ir.Requantize(np.array([5]), np.array([3]), ir.TensorType(4, False))
    steps = ir.Thresholds([[1, 2, 3]], ir.TensorType(2, False))

    units = [requantizer(kind, [0], 9, Site("fc", 0)) for kind in (scale, steps)]
    assert [type(unit) for unit in units] == [Requantizer, Threshold]
    for unit in units:
        Fragment.get(unit, None)
