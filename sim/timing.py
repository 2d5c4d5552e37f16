"""Latency and interval as a bench measured them, held against the manifest."""

import itertools
from typing import Any

from .checker import Outcome
from .manifest import Manifest

__all__ = ["judge"]


def judge(found: Manifest, outcome: Outcome) -> tuple[bool, dict[str, Any]]:
    """Are the measured cycles those of the manifest; and both, with a report of what differs."""
    measured = _measure(outcome)
    predicted = {
        "latency_cycles": found.latency_cycles,
        "initiation_interval": found.initiation_interval,
        "spacings": list(found.spacings),
        "last_beat_cycles": list(found.last_beat_cycles),
    }
    lines = [
        f"{name}: measured {measured[name]}, the manifest says {value}"
        for name, value in predicted.items()
        if measured[name] != value
    ]
    report = outcome.report()["report"] + lines
    return not lines, {**measured, "predicted": predicted, "report": report}


def _measure(outcome: Outcome) -> dict[str, object]:
    """Cycles from the first input beat to the frames' last output beats, and their spacing."""
    ends = [end - outcome.starts[0] for end in outcome.output.ends]
    spacings = [after - before for before, after in itertools.pairwise(ends[1:])]
    return {
        "frames": len(ends),
        "latency_cycles": ends[0] if ends else None,
        "initiation_interval": max(spacings[-2:], default=None),  # as the manifest's, once settled
        "spacings": sorted(set(spacings)),
        "last_beat_cycles": ends[:3],
    }
