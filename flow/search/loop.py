"""The search loop: ask, refuse, evaluate, tell, keep; generation by generation.

Everything follows from the space's seeds: any number of workers, and a search that was killed and
resumed, give the same archive byte for byte.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from ...quant.errors import ClaimError, InputError
from ...quant.ir import IntArray
from ...quant.names import printable
from .archive import NAME, Archive, Record, load_archive
from .crew import Crew, Evaluate, Result, busy_seconds
from .engine import engine
from .pareto import matrix, reference_point
from .space import Space

__all__ = ["Limits", "Outcome", "run"]

DRAWS = 10_000
"""Proposals in a row that may be refused before the search gives up."""

SAVE_SECONDS = 1.0
"""Time between two archives that are written while the search goes on."""

Tell = Callable[..., None]


class Limits(Protocol):
    """The constraints of a search."""

    def refused(self, encodings: IntArray) -> list[str | None]:
        """Why each of the encodings [n, genes] is not worth an evaluation: "NAME, predicted X > Y",
        or None."""

    def broken(self, objectives: Mapping[str, float]) -> str | None:
        """Which constraint an evaluated candidate breaks, or None."""


@dataclass(frozen=True)
class Outcome:
    """The archive of a search; the wall time of this run, and how much of it was no evaluation."""

    archive: Archive
    seconds: float
    overhead_seconds: float


def run(
    space: Space,
    evaluate: Evaluate,
    folder: Path | None = None,
    *,
    workers: int = 0,
    resume: bool = False,
    limits: Limits | None = None,
    progress: Tell | None = None,
) -> Outcome:
    """Search `space` until so many evaluations are made as it asks for, or nothing new is left.

    `evaluate(candidate)` gives the objectives that the space asks for by name; what it raises is
    recorded as the candidate's failure. It must be picklable unless `workers` is 0, which means
    in this process. The archive is kept in `folder` (None: nowhere) after the first generation,
    after each that ends `SAVE_SECONDS` or more after the last that was kept, and at the end;
    `resume` goes on from there.

    Raises InputError for a folder that holds an archive (without `resume`) or one of another space
    (with it), and when nothing satisfies the constraints; ClaimError when the whole first
    generation fails or a worker dies.
    """
    began = time.monotonic()
    archive = _open(space, folder, resume)
    search = _Search(space, archive, limits, progress or _silent)
    busy = 0.0
    keeper = _Keeper(archive, folder)
    with keeper, Crew(evaluate, workers) as crew:
        while search.remaining and not archive.exhausted:
            busy += search.generation(crew)
            keeper.generation()
            _check_alive(archive)
    _check_alive(archive)
    seconds = time.monotonic() - began
    return Outcome(archive, seconds, seconds - busy)


def _silent(*_: object) -> None:
    """No progress is shown."""


def _open(space: Space, folder: Path | None, resume: bool) -> Archive:
    """The archive to go on with: a new one, or the one that is kept."""
    if folder is not None:
        shown = printable(str(folder))
        if resume:
            archive = load_archive(folder)
            archive.check_space(space.digest, space.document(), shown)
            return archive
        if (folder / NAME).exists():
            raise InputError(
                f"{shown}: holds the archive of a search; go on with --resume, or give another "
                "folder with -o"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{shown}: cannot be created: {error.strerror}") from None
    elif resume:
        raise InputError("resume needs the folder of the search")
    return Archive(space.digest, space.document())


def _check_alive(archive: Archive) -> None:
    """ClaimError if all that was evaluated so far failed."""
    if any(record.objectives is not None for record in archive.records):
        return
    failures = [record.failure for record in archive.records if record.failure is not None]
    if failures:
        raise ClaimError(f"all {len(failures)} evaluations failed; the first: {failures[0]}")


class _Keeper:
    """Keeps the archive in a folder: writing thousands of records takes longer than a generation
    of quick evaluations, so not after each. A context manager; what was finished is kept."""

    def __init__(self, archive: Archive, folder: Path | None) -> None:
        self._archive, self._folder = archive, folder
        self._kept = -math.inf
        self._pending = False

    def __enter__(self) -> _Keeper:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pending and self._folder is not None:
            self._archive.drop_unfinished()
            self._archive.save(self._folder)

    def generation(self) -> None:
        """A generation is finished."""
        self._pending = True
        if self._folder is not None and time.monotonic() - self._kept >= SAVE_SECONDS:
            self._archive.save(self._folder)
            self._kept, self._pending = time.monotonic(), False


class _Search:
    """A search between two generations."""

    def __init__(self, space: Space, archive: Archive, limits: Limits | None, tell: Tell) -> None:
        self.space, self.archive, self.limits, self.tell = space, archive, limits, tell
        spec = space.search
        self.engine = engine(spec.algorithm, space, spec.population, spec.seed)
        self.numbers = {record.encoding: record.number for record in archive.records}
        self.spent = archive.evaluations
        self.evaluations = archive.evaluations
        if archive.generations:
            self.engine.restore(archive.engine, self.numbers)

    @property
    def remaining(self) -> int:
        """Evaluations still to make."""
        return max(0, self.space.search.evaluations - self.spent)

    def generation(self, crew: Crew) -> float:
        """Propose, evaluate and record one generation; returns the seconds of evaluation."""
        chosen = self._propose(min(self.space.search.population, self.remaining))
        before, total = self.spent, self.space.search.evaluations
        candidates = [self.space.decode(np.array(record.encoding)) for record in chosen]
        self.tell("evaluating", before, total)
        results = crew.run(candidates, lambda n: self.tell("evaluating", before + n, total))
        records = self.archive.records
        for record, result in zip(chosen, results, strict=True):
            records[record.number] = self._judged(record, result)
        self.spent += len(chosen)
        self.evaluations += len(chosen)
        self._learn([records[record.number] for record in chosen])
        self.archive.generations += 1
        self.archive.engine = self.engine.state()
        return busy_seconds(results)

    def _propose(self, wanted: int) -> list[Record]:
        """Records of new candidates to evaluate; refused ones are recorded on the way."""
        chosen: list[Record] = []
        reasons: Counter[str] = Counter()
        while len(chosen) < wanted:
            encodings = self.engine.ask(wanted - len(chosen))
            if not len(encodings):
                self.archive.exhausted = True
                break
            refused: list[str | None] = [None] * len(encodings)
            if self.limits:
                refused = self.limits.refused(encodings)
            made = self._record(encodings, refused)
            chosen += [record for record in made if record.refused is None]
            reasons.update(reason.split(",")[0] for reason in refused if reason is not None)
            if reasons.total() > DRAWS + len(chosen) * DRAWS:
                break
        if not chosen and reasons:
            name, count = reasons.most_common(1)[0]
            raise InputError(
                f"[constraints] {name}: broken by {count:,} of the {reasons.total():,} candidates "
                "proposed last, and none satisfies all constraints; relax it"
            )
        return chosen

    def _record(self, encodings: IntArray, refused: list[str | None]) -> list[Record]:
        """New records in the archive, with the numbers of their parents."""
        made = []
        for row, pair, reason in zip(encodings, self.engine.parents, refused, strict=True):
            encoding = tuple(row.tolist())
            record = Record(
                number=len(self.archive.records),
                generation=self.archive.generations,
                encoding=encoding,
                genome=self.space.genome(row),
                parents=tuple(self.numbers[parent] for parent in pair),
                refused=reason,
            )
            self.numbers[encoding] = record.number
            self.archive.records.append(record)
            made.append(record)
        return made

    def _judged(self, record: Record, result: Result) -> Record:
        """The record with its objectives, or the reason why it has none."""
        if result.objectives is None:
            return replace(record, failure=result.failure)
        for name in self.space.asked:
            value = result.objectives.get(name, math.nan)
            if not math.isfinite(value):
                what = f"is {value}" if name in result.objectives else "is missing"
                return replace(record, failure=f"objective {name} {what}")
        objectives = {name: result.objectives[name] for name in self.space.asked}
        broken = self.limits.broken(objectives) if self.limits else None
        return replace(record, objectives=objectives, broken=broken)

    def _learn(self, records: list[Record]) -> None:
        """Tell the engine; the first feasible candidates set the reference point."""
        good = [record for record in records if record.feasible]
        if not good:
            return
        names = self.space.objectives
        values = matrix(good, names)
        self.engine.tell(np.array([record.encoding for record in good]), values)
        if self.archive.reference is None:
            point = dict(zip(names, reference_point(values), strict=True))
            self.archive.reference = point | dict(self.space.reference)
