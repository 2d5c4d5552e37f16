"""Compares every bit of chain.v in every cycle."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge


@cocotb.test()
async def every_bit(dut):
    dut.rst.value, dut.d.value = 1, 0
    Clock(dut.clk, 10, "ns").start(start_high=False)
    for _ in range(3):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    expected = 0
    for _ in range(40):
        d = random.getrandbits(1)
        dut.d.value = d
        await FallingEdge(dut.clk)
        expected = (expected << 1 & (1 << 96) - 1) | (d ^ expected >> 95)
        assert int(dut.q.value) == expected
