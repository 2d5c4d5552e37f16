"""A bench of smooth.sv that accepts a small error, as a filter's user would."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

WEIGHTS = (1, 3, 3, 1)


async def settled(dut):
    """After the next rising edge; outputs are those of the new cycle."""
    await RisingEdge(dut.clk)


@cocotb.test()
async def follows_its_input(dut):
    dut.rst.value, dut.push.value, dut.x.value = 1, 0, 0
    Clock(dut.clk, 10, "ns").start()
    for _ in range(4):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    seen = []
    for _ in range(12):
        x = random.randrange(1 << 12)
        seen.append(x)
        dut.push.value, dut.x.value = 1, x
        await RisingEdge(dut.clk)
        dut.push.value = 0
        if len(seen) < 4:
            continue
        await settled(dut)
        while not dut.y_valid.value:
            await settled(dut)
        wanted = sum(w * v for w, v in zip(WEIGHTS, reversed(seen[-4:]), strict=True))
        assert abs(int(dut.y.value) - wanted) <= 64
