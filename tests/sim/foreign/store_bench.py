"""A bench of store.v that knows nothing of faults: random words, stalls on both sides, a model."""

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge

MASK = (1 << 80) - 1


class Model:
    """What store.v computes."""

    def __init__(self):
        self.memory, self.words = [0] * 8, []
        self.written = 0
        self.hash = 0x123456789ABCDEF01357

    def write(self, data, enables):
        mask = sum(0xFF << 8 * i for i in range(4) if enables >> i & 1)
        place = self.written % 8
        self.memory[place] = (self.memory[place] & ~mask) | (data & mask)
        self.words.append(self.memory[place])
        self.written += 1

    def result(self):
        word = self.words.pop(0)
        for _ in range(3):
            self.hash = ((self.hash << 7 | self.hash >> 73) & MASK) ^ word
        return self.hash


async def start(dut):
    dut.rst_n.value = 0
    dut.in_valid.value = 0
    dut.out_ready.value = 0
    Clock(dut.clk, 10, "ns").start()
    for _ in range(3):
        await RisingEdge(dut.clk)
    dut.rst_n.value = 1


async def source(dut, model, words):
    for data, enables in words:
        while random.random() < 0.4:
            await RisingEdge(dut.clk)
        dut.in_valid.value, dut.in_data.value, dut.in_be.value = 1, data, enables
        await FallingEdge(dut.clk)
        while not dut.in_ready.value:
            await FallingEdge(dut.clk)
        model.write(data, enables)
        await RisingEdge(dut.clk)
        dut.in_valid.value = 0


async def sink(dut, model, count):
    for number in range(count):
        dut.out_ready.value = 0
        while random.random() < 0.5:
            await RisingEdge(dut.clk)
        dut.out_ready.value = 1
        await FallingEdge(dut.clk)
        while not dut.out_valid.value:
            await FallingEdge(dut.clk)
        assert int(dut.out_data.value) == model.result(), f"word {number} is wrong"
        await RisingEdge(dut.clk)


async def run(dut, words):
    await start(dut)
    model = Model()
    cocotb.start_soon(source(dut, model, words))
    await sink(dut, model, len(words))


@cocotb.test()
async def whole_words(dut):
    await run(dut, [(random.getrandbits(32), 15) for _ in range(10)])


@cocotb.test()
async def single_bytes(dut):
    words = [(random.getrandbits(32), 15) for _ in range(8)]
    words += [(random.getrandbits(32), random.randrange(16)) for _ in range(4)]
    await run(dut, words)
