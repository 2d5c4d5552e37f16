"""Streams in Amaranth's simulator: a driver that idles, a sink that stalls, upsets of registers.

Tests get this module as the fixture `bench` (tests/hw/conftest.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from tercet.hw.config import LayerConfig, WindowedConfig, inlet
from tercet.hw.top import Top, layer_component

LOST = -(1 << 62)
"""In place of the elements of a frame that did not leave as it should."""

LIMIT = 20_000
"""Cycles after which a run counts as hung."""


@dataclasses.dataclass
class Run:
    """What left: `data` [frames, beats] words, `err` [frames, beats], `last_cycles` [frames] (cycle
    of the last beat minus the cycle of the first input beat), `landed` the
    upsets that were read back, `hung` when frames are missing."""

    data: list[list[int]] = dataclasses.field(default_factory=list)
    err: list[list[bool]] = dataclasses.field(default_factory=list)
    last_cycles: list[int] = dataclasses.field(default_factory=list)
    landed: int = 0
    hung: bool = False

    @property
    def flagged(self) -> list[bool]:
        """Whether any beat of each frame carries `err`."""
        return [any(frame) for frame in self.err]


@dataclasses.dataclass(frozen=True)
class Upset:
    """Flip bit `bit` of `register` in cycle `cycle` (0: the first that may take a word; with
    `reset_after` a negative one is before the reset, which is in cycle -1)."""

    register: Any
    bit: int
    cycle: int


def elements(words: list[list[int]], lanes: int, bits: int, *, signed: bool) -> np.ndarray:
    """Words [frames][beats] as values [frames, beats * lanes], lane 0 lowest."""
    mask = (1 << bits) - 1
    raw = [[(w >> (i * bits)) & mask for w in row for i in range(lanes)] for row in words]
    values = np.array(raw, dtype=np.int64).reshape(len(words), -1)
    if signed and bits == 1:  # bipolar
        return 2 * values - 1
    return values - ((values >> (bits - 1)) << bits) if signed else values


def pack(values: np.ndarray, lanes: int, bits: int) -> list[list[int]]:
    """Values [frames, elements] as words [frames][beats]; one bit of a bipolar -1 is 0."""
    raw = np.asarray(np.maximum(values, 0) if bits == 1 else values).reshape(
        len(values), -1, lanes
    ) & ((1 << bits) - 1)
    return [[sum(int(v) << (i * bits) for i, v in enumerate(w)) for w in frame] for frame in raw]


def run_network(
    layers: tuple[LayerConfig, ...], x: np.ndarray, **options: Any
) -> tuple[Run, np.ndarray]:
    """Frames `x` [n, *input_shape] through the circuits; the run, and the output [n, elements].

    One layer runs on its own streams. After an upset a frame of another length, or one that is
    missing, holds `LOST`. Options as for `run_stream`.
    """
    last = layers[-1]
    windowed = len(layers) == 1 and isinstance(last, WindowedConfig) and not last.coded
    unit = layer_component(last) if windowed else Top(layers)
    run = run_stream(unit, pack(x, *inlet(layers)), **options)
    beats = last.beats_per_frame
    found = np.full((len(x), beats * last.out_lanes), LOST)
    for i, frame in enumerate(run.data):
        if len(frame) == beats:
            found[i] = elements([frame], last.out_lanes, last.out_bits, signed=last.out_signed)
    return run, found


def _ports(unit: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Signals of the input and the output, of a `Top` or of a component with streams i and o."""
    if hasattr(unit, "i_valid"):
        names = ("valid", "ready", "data", "first", "last", "err")
        return tuple(
            {name: getattr(unit, f"{way}_{name}", None) for name in names} for way in ("i", "o")
        )
    streams = []
    for stream in (unit.i, unit.o):
        fields = {name: stream.payload[name] for name in ("data", "first", "last", "err")}
        streams.append({"valid": stream.valid, "ready": stream.ready, **fields})
    return streams[0], streams[1]


async def _ticks(ctx: Any, count: int) -> None:
    """`count` clock edges; repeat() and until() of Amaranth leave generators behind on errors."""
    for _ in range(count):
        await ctx.tick()


def run_stream(
    unit: Any,
    frames: list[list[int]],
    *,
    seed: int | None = None,
    upsets: Callable[[], list[Upset]] | None = None,
    visit: Callable[[Any], None] | None = None,
    flag: tuple[int, int] | None = None,
    reset_after: int = 0,
    limit: int = LIMIT,
) -> Run:
    """Send `frames` (words [frames][beats]) through `unit` and collect as many frames.

    A `seed` adds random idle cycles and back-pressure. `upsets()` is asked when the registers
    exist (the fixture `registers`); `visit(ctx)` is called in every cycle and restores what it
    changes. Without upsets the stream's rules are asserted: marks on the right beats, payload
    stable while it waits, no `err`. `flag`: (frame, beat) that enters with `err`. `reset_after`:
    cycles of random words before a reset and the frames. A run that does not end within `limit`
    cycles is `hung`.
    """
    source, sink = _ports(unit)
    rng = np.random.default_rng(seed)
    run = Run()
    strict = upsets is None and flag is None
    at = {"cycle": 0, "start": None}

    rst = Signal()

    async def warm_up(ctx: Any) -> None:
        ctx.set(source["valid"], 1)
        for cycle in range(reset_after):
            ctx.set(source["first"], cycle % len(frames[0]) == 0)
            ctx.set(source["data"], int(rng.integers(1 << min(62, len(source["data"])))))
            await ctx.tick()
        ctx.set(source["valid"], 0)
        ctx.set(rst, 1)
        await ctx.tick()
        ctx.set(rst, 0)

    async def drive(ctx: Any) -> None:
        await warm_up(ctx)
        for f, frame in enumerate(frames):
            for k, word in enumerate(frame):
                while seed is not None and rng.random() < 0.3:
                    ctx.set(source["valid"], 0)
                    await ctx.tick()
                ctx.set(source["valid"], 1)
                ctx.set(source["data"], word)
                ctx.set(source["first"], k == 0)
                ctx.set(source["last"], k == len(frame) - 1)
                if source["err"] is not None:
                    ctx.set(source["err"], flag == (f, k))
                while not (await ctx.tick().sample(source["ready"]))[-1]:
                    pass
        ctx.set(source["valid"], 0)

    async def watch(ctx: Any) -> None:
        watched = [sink[n] for n in ("valid", "ready", "data", "first", "last", "err")]
        watched += [source["valid"], source["ready"]]
        data, err, waiting = [], [], None
        ctx.set(sink["ready"], 1)
        await _ticks(ctx, reset_after + 1)
        while len(run.data) < len(frames) and at["cycle"] < limit:
            ctx.set(sink["ready"], seed is None or rng.random() < 0.6)
            sampled = await ctx.tick().sample(*watched)
            valid, ready, word, first, last, flagged, i_valid, i_ready = sampled[2:]
            if at["start"] is None and i_valid and i_ready:
                at["start"] = at["cycle"]
            beat = (word, first, last, flagged)
            if strict:
                assert waiting in (None, (valid, *beat)), "the payload changed while it waited"
                waiting = (valid, *beat) if valid and not ready else None
            if valid and ready:
                assert not strict or bool(first) == (not data), "mark of the first beat"
                data.append(word)
                err.append(bool(flagged))
                if last:
                    run.data.append(data)
                    run.err.append(err)
                    run.last_cycles.append(at["cycle"] - at["start"])
                    data, err = [], []
            at["cycle"] += 1
        run.hung = len(run.data) < len(frames)

    async def strike(ctx: Any) -> None:
        flips = sorted(upsets(), key=lambda flip: flip.cycle)
        cycle = min([0, *(flip.cycle for flip in flips)])
        await _ticks(ctx, reset_after + 1 + cycle)
        for flip in flips:
            if flip.cycle > cycle:
                await _ticks(ctx, flip.cycle - cycle)
            cycle, bits = flip.cycle, flip.register.as_unsigned()
            flipped = ctx.get(bits) ^ 1 << flip.bit
            ctx.set(bits, flipped)
            run.landed += ctx.get(bits) == flipped

    async def look(ctx: Any) -> None:
        await _ticks(ctx, reset_after + 1)
        while True:
            visit(ctx)
            await ctx.tick()

    sim = Simulator(ResetInserter(rst)(unit))
    sim.add_clock(1e-8)
    sim.add_testbench(drive, background=True)
    if upsets is not None:
        sim.add_testbench(strike, background=True)
    if visit is not None:
        sim.add_testbench(look, background=True)
    sim.add_testbench(watch)
    sim.run()
    if strict:
        assert not any(run.flagged), "err without a cause"
    return run
