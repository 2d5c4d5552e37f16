"""The requantiser against the reference's formula: every table, one value a cycle, latency."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from tercet.hw.config import requantize_cycles
from tercet.hw.requantize import Requantizer
from tercet.hw.site import Site
from tercet.quant import ir, reference

ACC_BITS = 20


def stream(kind, channels, acc, index, bits=ACC_BITS):
    """q of a value a cycle, as long behind its value as `cycles` says; as the output's type."""
    unit = Requantizer(kind, channels, bits, Site("fc", 0))
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
    q = np.array(found[unit.cycles :])
    return q - ((q >> (kind.out.bits - 1)) << kind.out.bits) if kind.out.signed else q


def check(kind, channels=(0,), bits=ACC_BITS, seed=0):
    rng = np.random.default_rng(seed)
    edge = 1 << (bits - 1)
    index = rng.integers(0, len(channels), 120)
    acc = rng.integers(-edge, edge, 120)
    acc[:40] = rng.integers(-min(edge, 300), min(edge, 300), 40)
    acc[40:44] = (-edge, edge - 1, -1, 0)
    vectors = (kind.multiplier, [] if kind.bound is None else kind.bound)
    neurons = max(max(channels) + 1, *(len(vector) for vector in vectors))
    rows = np.zeros((len(acc), neurons), dtype=np.int64)
    rows[np.arange(len(acc)), np.asarray(channels)[index]] = acc
    truth = reference.requantize(kind, rows)[np.arange(len(acc)), np.asarray(channels)[index]]

    assert stream(kind, list(channels), acc, index, bits).tolist() == truth.tolist()


OUT = ir.TensorType(6, True, zero_point=-3)
POSITIVE = ir.TensorType(8, False, zero_point=100)


def table(multiplier, shift, out=OUT, **options):
    return ir.Requantize(np.atleast_1d(multiplier), np.atleast_1d(shift), out, **options)


@pytest.mark.parametrize("out", [OUT, POSITIVE, ir.TensorType(1, False)], ids=str)
@pytest.mark.parametrize(
    ("multiplier", "shift"), [(1, 0), (1, 7), (43210, 25), (65535, 31), (0, 4), (3, 0), (7, 62)]
)
def test_one_table_for_all_channels(out, multiplier, shift):
    check(table(multiplier, shift, out))


@pytest.mark.parametrize("bits", [2, 8, 18, 19, 33])
def test_accumulators_of_every_width(bits):
    check(table(60001, max(0, bits + 8)), bits=bits)


def test_multipliers_of_31_bits():
    check(table((1 << 31) - 1, 40, m_bits=31), bits=24)


def test_channels_with_their_own_multiplier_and_shift():
    kind = table([1, 300, 65535, 0, 77, 1], [0, 9, 24, 3, 62, 5])

    check(kind, (0, 2, 4))
    check(kind, (5, 1, 3))
    check(kind, (3,))


@pytest.mark.parametrize("bound_kind", ["saturate", "zero"])
@pytest.mark.parametrize("multiplier", [[1], [41000]], ids=["shift", "scale"])
def test_bounds_of_a_layer_and_of_each_channel(bound_kind, multiplier):
    shift = [6] if multiplier == [1] else [20]
    for bound in ([9], [9, -3, 31, 0, 9, -20]):
        kind = table(multiplier, shift, bound=np.array(bound), bound_kind=bound_kind)

        check(kind, (1, 5, 2, 0))


def test_a_relu_clamps_at_the_zero_point():
    check(table(50000, 22, POSITIVE, lo=100, hi=200))


def test_a_plain_shift_takes_two_cycles_and_a_multiplier_three():
    assert requantize_cycles(table(1, 4)) == 2
    assert requantize_cycles(table([1, 1], [4, 4])) == 2
    assert requantize_cycles(table([1, 1], [4, 5])) == 3
    assert requantize_cycles(table(2, 4)) == 3
    assert requantize_cycles(None) == 0


def test_equal_channels_share_one_constant(registers):
    kind = table([5, 9, 5, 9], [8, 8, 8, 8])
    check(kind, (0, 2))
    assert "multiplier" not in {register.name for register in registers}

    check(kind, (0, 1))
    assert "multiplier" in {register.name for register in registers}
