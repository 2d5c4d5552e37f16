"""Latency and initiation interval, measured without stalls and compared with the manifest."""

import itertools

import cocotb
from cocotb.handle import HierarchyObject

from ..streams import Outcome
from .session import Session

FRAMES = 6


@cocotb.test()
async def timing(dut: HierarchyObject) -> None:
    """Last beats of frames 0, 1, 2; every spacing from the third frame on is one interval."""
    session = Session(dut, "timing")
    await session.link.reset()

    outcome = await session.link.play(slice(0, FRAMES))

    measured = _measure(outcome)
    manifest = session.manifest
    predicted = {
        "latency_cycles": manifest.latency_cycles,
        "initiation_interval": manifest.initiation_interval,
        "last_beat_cycles": list(manifest.last_beat_cycles),
    }
    lines = [
        f"{name}: measured {measured[name]}, the manifest says {value}"
        for name, value in predicted.items()
        if measured[name] != value
    ]
    report = outcome.report()
    report["report"] += lines
    session.finish(outcome.passed and not lines, **report, **measured, predicted=predicted)


def _measure(outcome: Outcome) -> dict[str, object]:
    """Cycles from the first input beat to the frames' last output beats, and their spacing."""
    ends = [end - outcome.starts[0] for end in outcome.output.ends]
    spacings = sorted({after - before for before, after in itertools.pairwise(ends[1:])})
    interval: object = spacings[0] if len(spacings) == 1 else spacings
    return {
        "latency_cycles": ends[0] if ends else None,
        "initiation_interval": interval,
        "last_beat_cycles": ends[:3],
    }
