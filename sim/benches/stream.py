"""Bit-exact benches: every tap and the output compared under idle, stalls, pauses and resets."""

import cocotb
from cocotb.handle import HierarchyObject

from ..budget import long_stall as stalled
from ..checker import Outcome
from ..streams import pause, random_bits
from .session import Session

LEAST_OFFERED, LEAST_TAKEN = 0.4, 0.3


@cocotb.test()
async def stream_all(dut: HierarchyObject) -> None:
    """All frames back to back, the input idle and the output stalled at random."""
    session = Session(dut, "stream_all")
    await session.link.reset()
    idle = random_bits(session.rng, LEAST_OFFERED)
    ready = random_bits(session.rng, LEAST_TAKEN)

    outcome = await session.link.play(slice(None), idle, ready)

    session.finish(outcome.passed, frames=session.frames, **outcome.report())


@cocotb.test()
async def three_frames(dut: HierarchyObject) -> None:
    """Three different frames without a pause, or as many as the budget allows."""
    session = Session(dut, "three_frames")
    await session.link.reset()
    frames = session.budget.three_frames

    outcome = await session.link.play(slice(0, frames))

    session.finish(outcome.passed, frames=frames, **outcome.report())


@cocotb.test()
async def long_stall(dut: HierarchyObject) -> None:
    """The output stalled for 10,000 cycles or more in the middle of the frames; nothing is lost."""
    session = Session(dut, "long_stall")
    await session.link.reset()
    before, length = stalled(session.manifest)

    outcome = await session.link.play(slice(0, 5), None, pause(before, length), patience=length)

    session.finish(outcome.passed, stalled_cycles=length, **outcome.report())


@cocotb.test()
async def reset_mid_frame(dut: HierarchyObject) -> None:
    """Reset at random cycles of the frames; the frames after each reset are right."""
    session = Session(dut, "reset_mid_frame")
    link, longest = session.link, session.manifest.latency_cycles
    outcomes: list[Outcome] = []
    cycles = [int(c) for c in session.rng.integers(1, 2 * longest, session.budget.resets)]
    for cycle in cycles:
        await link.reset()
        before = await link.play(slice(0, 3), cycles=cycle)
        await link.reset()
        outcomes += [before, await link.play(slice(1, 1 + session.budget.reset_frames))]
    bad = [outcome for outcome in outcomes if not outcome.passed]

    worst = (bad or outcomes)[0].report() | {"mismatches": sum(o.wrong for o in outcomes)}
    session.finish(not bad, resets=cycles, **worst)
