"""The benches of a design of many cycles a frame that run on the clocked harness (checked.py).

They have the names and results of the cocotb benches they stand in for (sim/benches).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import budget, checked, timing
from .checked import Stalls
from .checker import Outcome
from .manifest import Manifest, Words
from .runner import Result
from .verilate import Recipe

__all__ = ["BENCHES", "run"]

BENCHES = ("timing", "stream_all", "long_stall")
LEAST_OFFERED, LEAST_TAKEN = 0.4, 0.3


def run(
    found: Manifest,
    design: Recipe,
    words: list[Words],
    folder: Path,
    seed: int,
    tell: Callable[[str], None],
) -> list[Result]:
    """Run BENCHES on the frames of `folder`/stream_<k>.bin, whose maps are `words`."""
    model = checked.program(found, design)

    def play(name: str, frames: slice, stalls: Stalls) -> Outcome:
        count = len(range(*frames.indices(len(words[0]))))

        def progress(done: int) -> None:
            tell(f"{name}: frame {done} of {count}")

        progress(0)
        return checked.play(model, found, words, folder, frames, stalls, seed, progress)

    measured = play("timing", slice(0, budget.LEAST_CLOCKED_FRAMES), Stalls())
    streamed = play("stream_all", slice(None), _random(found))
    start, length = budget.long_stall(found)
    stall = Stalls(stall_from=start, stall_cycles=length)
    stalled = play("long_stall", slice(0, budget.stalled_frames(found)), stall)
    right, detail = timing.judge(found, measured)
    return [
        _result("timing", right, measured, **detail),
        _result("stream_all", True, streamed, frames=len(words[0])),
        _result("long_stall", True, stalled, stalled_cycles=length),
    ]


def _random(found: Manifest) -> Stalls:
    """Idle and stalls of some cycles throughout, and now and then one that fills the pipeline."""
    interval = found.initiation_interval
    most = found.latency_cycles + 4 * interval
    return Stalls(LEAST_OFFERED, LEAST_TAKEN, pause_every=4 * interval, pause_most=most)


def _result(name: str, right: bool, outcome: Outcome, **detail: Any) -> Result:
    report = {"driver": "clocked", **outcome.report(), **detail}
    passed = right and outcome.passed
    return Result(name, passed, report, "" if passed else report["report"][0])
