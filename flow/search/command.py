"""`tercet search`: a space is searched, its front kept as tables, plots and buildable members."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...quant.names import printable
from ..synth import write_json
from . import constraints, loop, plots
from .archive import Archive, Record
from .evaluate import Evaluator
from .finalists import FAULTS, finalists
from .members import build_command, write_member
from .pareto import front, hypervolume
from .space import Space
from .space_file import load_space

__all__ = ["search"]

Json = dict[str, Any]
RESULT = "search.json"


def search(
    path: Path,
    out: Path,
    *,
    resume: bool = False,
    workers: int | None = None,
    measure: int = 0,
    faults: int = FAULTS,
    progress: Callable[..., None] | None = None,
) -> Json:
    """Search the space of the file `path` with everything in the folder `out`.

    `workers` processes evaluate (default: one for each processor); `measure` members of the front
    become circuits that `faults` upsets strike. Writes archive.json, networks/, members/,
    front.png, front.html and search.json; the result is the `search` JSON of the command line,
    whose `failure` is the claim that did not hold, or None.

    Raises InputError for a bad space, contradicting constraints or a folder of another search;
    ClaimError when every evaluation fails.
    """
    tell = progress or _silent
    space, out = load_space(path), Path(out)
    if space.constraints and not resume:
        tell("checking the constraints")
        constraints.check(space)
    evaluator = Evaluator(space, out)
    workers = workers or os.cpu_count() or 1
    outcome = loop.run(
        space,
        evaluator.evaluate,
        out,
        workers=workers,
        resume=resume,
        limits=constraints.Constraints(space) if space.constraints else None,
        progress=tell,
    )
    archive = outcome.archive
    best = front(archive.feasible, space.objectives) if archive.feasible else []
    for done, record in enumerate(best):
        tell("writing members", done, len(best))
        write_member(evaluator, out, record)
    result = _result(space, archive, best, out)
    result |= {
        "seconds": round(outcome.seconds, 2),
        "overhead_seconds": round(outcome.overhead_seconds, 3),
        "workers": workers,
    }
    if best and measure:
        result["finalists"] = finalists(
            evaluator, best, out, measure, faults=faults, workers=workers, progress=tell
        )
    result["failure"] = _failure(archive, result)
    write_json(out / RESULT, result)
    if best:
        tell("drawing the front")
        plots.draw(out)
    return result


def _silent(*_: object) -> None:
    """No progress is shown."""


def _result(space: Space, archive: Archive, best: Sequence[Record], out: Path) -> Json:
    failures = Counter(record.failure for record in archive.records if record.failure)
    refused = Counter(
        reason.split(",")[0]
        for record in archive.records
        if (reason := record.refused or record.broken) is not None
    )
    reference = archive.reference or {}
    return {
        "out": str(out),
        "space": archive.digest,
        "candidates": space.size,
        "algorithm": space.search.algorithm,
        "objectives": list(space.objectives),
        "evaluations": archive.evaluations,
        "generations": archive.generations,
        "exhausted": archive.exhausted,
        "failures": dict(failures.most_common()),
        "refused": dict(refused.most_common()),
        "reference": reference,
        "hypervolume": hypervolume(best, space.objectives, reference),
        "front": [
            {
                "number": record.number,
                "genome": dict(record.genome),
                "objectives": dict(record.objectives or {}),
                "build": build_command(out, record.number, space.target),
            }
            for record in best
        ],
    }


def _failure(archive: Archive, result: Json) -> str | None:
    """The claim that does not hold: a finalist's, or that anything satisfies the constraints."""
    if not archive.feasible:
        reasons = [record.broken for record in archive.records if record.broken is not None]
        return (
            f"no evaluated candidate satisfies the constraints; the first: {printable(reasons[0])}"
        )
    failures = [one["failure"] for one in result.get("finalists", []) if one["failure"]]
    return failures[0] if failures else None
