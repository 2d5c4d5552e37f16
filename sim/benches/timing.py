"""Latency and initiation interval, measured without stalls and compared with the manifest."""

import cocotb
from cocotb.handle import HierarchyObject

from ..timing import judge
from .session import Session

FRAMES = 6


@cocotb.test()
async def timing(dut: HierarchyObject) -> None:
    """Last beats of frames 0, 1, 2; every spacing from the third frame on is one interval."""
    session = Session(dut, "timing")
    await session.link.reset()

    outcome = await session.link.play(slice(0, FRAMES))

    right, detail = judge(session.manifest, outcome)
    session.finish(outcome.passed and right, **outcome.report() | detail)
