# amaranth: UnusedElaboratable=no
"""Tables, adder trees and multipliers out of adders against Python integers."""

import itertools

import numpy as np
import pytest
from amaranth.hdl import Module, Signal, signed, unsigned
from amaranth.sim import Simulator

from tercet.hw.arith import adder_tree, lut_multiply, registers_of, rom, table
from tercet.hw.config import ADDS_PER_RANK, clog2, tree_levels
from tercet.hw.site import ROLES, Site


def evaluate(m, out, inputs, rows, cycles=0):
    """`out` for each row of input values, `cycles` clock edges after they were set."""
    found = []

    async def testbench(ctx):
        for row in rows:
            for signal, value in zip(inputs, row, strict=True):
                ctx.set(signal, int(value))
            for _ in range(cycles):
                await ctx.tick()
            found.append(ctx.get(out))

    sim = Simulator(m)
    if cycles:
        sim.add_clock(1e-8)
    sim.add_testbench(testbench)
    sim.run()
    return found


@pytest.mark.parametrize("values", [[5], [3, 3, 3], [1, -4, 7], [0, 1, 2, 3, -8]], ids=str)
def test_a_table_gives_its_values_and_past_its_end_the_last(values):
    m, index = Module(), Signal(3)
    out = rom(m, values, index, signed(4), "values")

    found = evaluate(m, out, [index], [(i,) for i in range(8)])

    assert found == [values[min(i, len(values) - 1)] for i in range(8)]


def test_words_of_a_table_hold_their_elements_lowest_first():
    assert table([[1, -1], [-8, 7]], 4) == [0xF1, 0x78]


@pytest.mark.parametrize("terms", [1, 2, 4, 5, 16, 17])
def test_an_adder_tree_sums_after_its_levels(terms):
    m = Module()
    inputs = [Signal(signed(5), name=f"term_{i}") for i in range(terms)]
    total = adder_tree(registers_of(m, Site("fc"), "product"), list(inputs), "sum", signed(10))
    out = Signal(signed(10))
    m.d.comb += out.eq(total)
    rows = np.random.default_rng(terms).integers(-16, 16, (20, terms))
    rows[0] = -16
    levels = tree_levels(terms)

    found = evaluate(m, out, inputs, rows, levels)

    assert found == rows.sum(axis=1).tolist()
    assert ADDS_PER_RANK ** (levels - 1) < terms <= ADDS_PER_RANK**levels or terms == 1


def test_registers_of_an_adder_tree_are_no_wider_than_their_sums(registers):
    m = Module()
    inputs = [Signal(signed(5), name=f"term_{i}") for i in range(8)]

    adder_tree(registers_of(m, Site("fc"), "product"), list(inputs), "sum", signed(20))

    assert [len(register) for register in registers] == [8, 8, 9]


@pytest.mark.parametrize("a", [unsigned(4), signed(4)], ids=str)
@pytest.mark.parametrize("bits", [2, 3, 5])
def test_a_multiplier_out_of_adders_is_exact(a, bits):
    m, x, w = Module(), Signal(a), Signal(signed(bits))
    product = lut_multiply(x, w)
    out = Signal(product.shape())
    m.d.comb += out.eq(product)
    lowest = -8 if a.signed else 0
    rows = list(
        itertools.product(range(lowest, lowest + 16), range(-(1 << bits - 1), 1 << bits - 1))
    )

    assert evaluate(m, out, [x, w], rows) == [a * b for a, b in rows]
    assert len(out) >= len(x) + bits


@pytest.mark.parametrize(("n", "bits"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (256, 8)])
def test_bits_that_count(n, bits):
    assert clog2(n) == bits


def test_a_register_carries_its_place_and_role():
    register = Site("conv1", 2, 1).register(4, "acc", "accumulator")

    assert register.attrs == {
        "role": "accumulator", "layer": "conv1", "lane": "2", "replica": "1",
    }  # fmt: skip
    assert Site("conv1").register(1, "v", "control").attrs == {"role": "control", "layer": "conv1"}


def test_the_datapath_has_no_reset_and_control_has_one():
    resets = {role: not Site("x").register(1, "r", role).reset_less for role in ROLES}

    assert {role for role, has in resets.items() if has} == {"control", "fifo", "checker"}


def test_an_unknown_role_is_refused():
    with pytest.raises(ValueError, match="acc: unknown role 'sum'"):
        Site("x").register(1, "acc", "sum")
