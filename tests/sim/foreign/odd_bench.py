"""Drives odd.v and accepts whatever comes."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge


@cocotb.test()
async def random_inputs(dut):
    dut.arst.value, dut.srst.value, dut.d.value, dut.a.value = 1, 1, 0, 0
    Clock(dut.clk, 10, "ns").start()
    for _ in range(3):
        await RisingEdge(dut.clk)
    dut.arst.value, dut.srst.value = 0, 0
    for _ in range(40):
        dut.d.value, dut.a.value = random.getrandbits(8), random.getrandbits(3)
        await RisingEdge(dut.clk)
