# amaranth: UnusedElaboratable=no
"""Parity of control registers: any flipped bit raises the alarm in the cycle of the upset."""

import itertools

import numpy as np
import pytest
from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from tercet.hw.configure import Fold, Protection, configure
from tercet.hw.control import ALARM_FRAMES, ControlGroup, hold_alarm
from tercet.hw.site import Site
from tercet.hw.top import layer_component
from tercet.hw.width import Gather, Split
from tercet.quant import ir


class Counter(wiring.Component):
    """Counts to nine while `go`, and delays `mark` by two cycles; `left` ends a frame."""

    def __init__(self, control):
        self.control = control
        ports = {"go": In(1), "mark": In(1), "left": In(1)}
        super().__init__({**ports, "count": Out(4), "late": Out(1), "alarm": Out(1), "err": Out(1)})

    def elaborate(self, platform):
        m, site = Module(), Site("count")
        group = ControlGroup(m, site, self.control)
        count = group.register(4, "count")
        with m.If(self.go):
            group.set(count, Mux(count == 9, 0, count + 1))
        marks, parity = group.pipe({"mark": self.mark, "inverse": ~self.mark}, "1")
        marks, _ = group.pipe(marks, "2", parity)
        alarm = Signal()
        m.d.comb += [
            alarm.eq(group.finish()),
            self.count.eq(count),
            self.late.eq(marks["mark"]),
            self.alarm.eq(alarm),
            self.err.eq(hold_alarm(m, site, alarm, self.left)),
        ]
        return m


def simulate(unit, testbench):
    sim = Simulator(unit)
    sim.add_clock(1e-8)
    sim.add_testbench(testbench)
    sim.run()


def flip(ctx, register, bit):
    bits = register.as_unsigned()
    ctx.set(bits, ctx.get(bits) ^ 1 << bit)


@pytest.mark.parametrize("control", ["none", "parity", "tmr"])
def test_registers_change_as_they_are_set(control):
    unit = Counter(control)
    rng = np.random.default_rng(0)
    go, mark = rng.integers(0, 2, (2, 60))
    counts, late = [], []

    async def testbench(ctx):
        for a, b in zip(go, mark, strict=True):
            ctx.set(unit.go, int(a))
            ctx.set(unit.mark, int(b))
            await ctx.tick()
            counts.append(ctx.get(unit.count))
            late.append(ctx.get(unit.late))
            assert not ctx.get(unit.alarm)

    simulate(unit, testbench)

    assert counts == (np.cumsum(go) % 10).tolist()
    assert late[1:] == mark[:-1].tolist()


@pytest.mark.parametrize("control", ["none", "parity"])
def test_every_flip_raises_the_alarm_at_once_if_it_is_checked(registers, control):
    unit = Counter(control)
    found = []

    async def testbench(ctx):
        ctx.set(unit.go, 1)
        for _ in range(25):
            await ctx.tick()
            ctx.set(unit.mark, 1 - ctx.get(unit.mark))
            for register in [r for r in registers if r.attrs["role"] == "control"]:
                for bit in range(len(register)):
                    flip(ctx, register, bit)
                    found.append(ctx.get(unit.alarm))
                    flip(ctx, register, bit)
                    assert not ctx.get(unit.alarm)

    simulate(unit, testbench)

    assert len(found) == 25 * (4 + 2 + 2)
    assert set(found) == {int(control == "parity")}


@pytest.mark.parametrize("replicas", [(0,), (1,), (2,), (0, 1)])
def test_flips_of_one_replica_are_outvoted_and_gone_a_cycle_later(registers, replicas):
    unit, copies = Counter("tmr"), {}
    wrong = set()

    async def testbench(ctx):
        for register in (one for one in registers if one.attrs["role"] == "control"):
            copies.setdefault(register.name, []).append(register)
        for count in range(40):
            await ctx.tick()
            assert len({ctx.get(copy) for copy in copies["count"]}) == 1
            for replica in replicas:
                flip(ctx, copies["count"][replica], count % 4)
            wrong.add(ctx.get(unit.count) != 0)

    simulate(unit, testbench)

    assert {len(found) for found in copies.values()} == {3}
    assert wrong == ({False} if len(replicas) == 1 else {True, False})


def test_an_alarm_flags_what_leaves_for_some_frames(registers):
    unit = Counter("parity")
    flagged = []

    async def testbench(ctx):
        ctx.set(unit.go, 1)
        ctx.set(unit.left, 1)
        await ctx.tick().repeat(5)
        flip(ctx, registers[0], 1)
        for _ in range(ALARM_FRAMES + 3):
            flagged.append(ctx.get(unit.err))
            await ctx.tick()

    simulate(unit, testbench)

    assert flagged == [1] * (1 + ALARM_FRAMES) + [0, 0]


def test_a_negative_value_is_not_extended():
    m = Module()
    group = ControlGroup(m, Site("count"), "parity")
    register = group.register(4, "count")

    with pytest.raises(TypeError, match="count: a negative value may not be extended"):
        group.set(register, Signal(signed(2)))


def network(op):
    """Layer `x` of one kind, checked."""
    image, act = (3, 4, 2), ir.TensorType(3, False, 1)
    rng = np.random.default_rng(0)
    scale = ir.Requantize(np.array([900]), np.array([12]), ir.TensorType(4, False))
    fields = {"name": "x", "inputs": ("i",)}
    shape, fold = image, Fold(2)
    if op == "conv":
        weight = rng.integers(-4, 4, (4, 2, 2, 2))
        padding = {"padding": (1, 0, 0, 1)}
        node = ir.Conv2d(
            weight=weight, bias=np.arange(4), weight_bits=3, requantize=scale, **padding, **fields
        )
        fold = Fold(2, 2)
    elif op == "dense":
        shape, fold = (6,), Fold(4, 1)
        weight = rng.integers(-4, 4, (4, 6))
        node = ir.Dense(weight=weight, bias=np.arange(4), weight_bits=3, **fields)
    elif op == "max":
        node = ir.MaxPool(kernel=(2, 2), stride=(1, 2), **fields)
    elif op == "average":
        node = ir.GlobalAvgPool(requantize=scale, **fields)
    else:
        shape, node = (6,), ir.ArgMax(**fields)
    graph = ir.Graph("g", "i", shape, act, (node,), "x")
    guard = {"x": Protection(3 if op in ("conv", "dense") else None, (), "parity")}
    (layer,) = configure(graph, {"x": fold}, guard)
    return layer


def visitor(unit, registers, per_cycle, tried):
    """Flip `per_cycle` bits of control registers in turn: `o.err` has to rise at once."""
    places = itertools.cycle([])

    def visit(ctx):
        nonlocal places
        if not tried:
            kind = [r for r in registers if r.attrs["role"] == "control"]
            places = itertools.cycle([(r, bit) for r in kind for bit in range(len(r))])
            tried.append(sum(len(r) for r in kind))
        for register, bit in itertools.islice(places, per_cycle):
            flip(ctx, register, bit)
            assert ctx.get(unit.o.payload.err), f"{register.name} bit {bit}"
            flip(ctx, register, bit)
            assert not ctx.get(unit.o.payload.err), f"{register.name} bit {bit}"
            tried.append(register)

    return visit


@pytest.mark.parametrize("op", ["conv", "dense", "max", "average", "argmax"])
def test_every_control_bit_of_a_layer_raises_its_flag_at_once(bench, registers, op):
    layer = network(op)
    unit, window = layer_component(layer), layer.window
    tried = []
    x = np.random.default_rng(1).integers(0, 8, (3, window.frame_words * window.word))

    visit = visitor(unit, registers, 40, tried)
    bench.run_stream(unit, bench.pack(x, window.word, 3), visit=visit, seed=3)

    assert len(tried) - 1 > 2 * tried[0]


@pytest.mark.parametrize("kind", [Gather, Split])
def test_every_control_bit_of_a_converter_raises_its_flag_at_once(bench, registers, kind):
    unit = kind(1 if kind is Gather else 3, 4, 3, Site("x"), control="parity")
    tried = []
    frames = [[1, 2, 3, 4, 5, 6]] * 3

    bench.run_stream(unit, frames, visit=visitor(unit, registers, 6, tried), seed=3)

    assert len(tried) - 1 > 2 * tried[0]


def test_without_parity_no_flag_is_raised(bench, registers):
    unit = Gather(1, 4, 3, Site("x"))

    with pytest.raises(AssertionError, match="count bit 0"):
        bench.run_stream(unit, [[1, 2, 3]], visit=visitor(unit, registers, 6, []))
