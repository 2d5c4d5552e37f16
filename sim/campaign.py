"""Fault campaigns: choose experiments, run and keep them batch by batch, audit, report, compare.

docs/faults.md defines every word of the report.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from ..quant.errors import ClaimError, InputError
from ..quant.ir import IntArray
from ..quant.names import printable
from . import audit, sampling, statistics, store, summary
from .campaign_options import Arguments, Options
from .faults import Faults
from .outcomes import Outcome
from .sampling import Complete, Listed, Population
from .steady import Stalls
from .store import Batch, Shelf, Table
from .targets import Targets
from .testbed import StreamTestbed, Testbed, Verdicts

__all__ = ["Options", "compare", "run_campaign", "run_on"]

BATCH_S = 4.0
FIRST_BATCH, LARGEST_BATCH = 4000, 1 << 20
BROAD, FIRST_BROAD_BATCH = ("bitparallel", "exhaustive", "netlist"), 1 << 16
"""Engines that need many experiments at a time."""

Progress = Callable[..., None]  # (what, done, total); the last two may be left out
Json = dict[str, Any]
Plan = Listed | Complete


def run_campaign(
    directory: Path,
    *,
    inputs: int = 32,
    first_input: int = 0,
    inputs_file: Path | None = None,
    stalls: Stalls | None = None,
    workers: int | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    **options: Unpack[Arguments],
) -> Json:
    """A campaign on the build directory `directory`; returns the report (`run_on`).

    Inputs are frames `first_input`.. of `inputs_file` (default DIR/vectors.npz), as many as there
    are up to `inputs`; frames run back to back unless there are `stalls`. `options` are those of
    `Options`. The same arguments give the same experiments and outcomes, whatever `workers` is.
    Raises what `run_on` raises, and InputError for a bad directory.
    """
    chosen = Options(**options)
    StreamTestbed.check_engine(chosen.engine)
    if progress is not None:
        progress("compiling the fault engine")
    testbed = StreamTestbed.open(
        Path(directory),
        inputs=inputs,
        first_input=first_input,
        inputs_file=inputs_file,
        stalls=stalls,
    )
    return run_on(
        testbed, Path(directory), chosen, workers=workers, resume=resume, progress=progress
    )


def run_on(
    testbed: Testbed,
    directory: Path,
    options: Options,
    *,
    workers: int | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Json:
    """Strike the testbed, sort what happens, keep it in DIR/campaigns/<id>/, return the report.

    A campaign that was interrupted goes on after its last batch. One that is finished is run again,
    or with `resume` answered from the store; `resume` of one that was never begun is an InputError.

    Raises InputError for bad options or an unwritable directory; ClaimError if the engine proves
    wrong, the control experiments change nothing, or the audit cannot reproduce the golden run.
    Disagreements of the audit are counted in the report.
    """
    tell = progress or _silent
    targets = Targets(testbed)
    source = sampling.population(options.model, targets, testbed)
    header = _header(testbed, options)
    name = store.campaign_id(header)
    path = directory / "campaigns" / name / "campaign.sqlite"
    if resume and not path.is_file():
        raise InputError(_nothing_to_resume(directory, header))
    kept = _finished(path)
    if kept is not None and resume:
        _write(path.with_name("report.json"), kept)
        return kept
    plan = _plan(source, targets, testbed, options)
    control = audit.control(testbed, options.engine, options.seed)
    with Shelf(path) as shelf:
        if kept is not None or not shelf.begun:
            path.with_name("report.json").unlink(missing_ok=True)
            shelf.create(header, targets.sites)
        _run(testbed, targets, plan, shelf, options, workers, tell)
        tell("reporting")
        table = shelf.table()
        report = _report(testbed, targets, source, table, shelf.seconds, options)
        report |= header | {"control": control, "id": name}
        report["audit"] = audit.audit(testbed, plan, table.outcome, options, workers, tell)
        shelf.finish(report)
    _write(path.with_name("report.json"), report)
    return report


def _silent(*_: object) -> None:
    pass


def _finished(path: Path) -> Json | None:
    """The report of the campaign kept at `path`, if it is there and finished."""
    if not path.is_file():
        return None
    with Shelf(path, read_only=True) as shelf:
        return shelf.report if shelf.begun else None


def _header(testbed: Testbed, options: Options) -> Json:
    """All that the results depend on."""
    header = testbed.origin | {"arguments": options.to_json(), "tools": store.versions()}
    return dict(json.loads(json.dumps(header)))


def _nothing_to_resume(directory: Path, header: Json) -> str:
    """Why there is nothing to go on with, and how the nearest campaign differs."""
    others = []
    for path in sorted((directory / "campaigns").glob("*/campaign.sqlite")):
        with contextlib.suppress(InputError), Shelf(path, read_only=True) as shelf:
            if shelf.begun:
                others.append((_differences(shelf.header, header), path.parent.name))
    text = f"{directory}: no campaign with these arguments to resume"
    if not others:
        return text
    differing, name = min(others, key=lambda pair: len(pair[0]))
    return f"{text}; {printable(name)} differs in {', '.join(differing)}"


def _differences(one: Json, other: Json, prefix: str = "") -> list[str]:
    """Keys whose values differ, with both values where they are short."""
    found = []
    for key in sorted(one.keys() | other.keys()):
        a, b = one.get(key), other.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            text = f"{prefix}{key} ({printable(str(a))}, not {printable(str(b))})"
            found.append(text if len(text) < 80 else f"{prefix}{key}")
    return found


def _plan(source: Population, targets: Targets, testbed: Testbed, options: Options) -> Plan:
    if options.exhaustive:
        return Complete(source)
    strata: IntArray | None = None
    if options.strata != "none":
        labels = np.array(targets.labels("role" if options.strata == "role" else "layer"))
        strata = np.unique(labels[targets.owner[source.targets]], return_inverse=True)[1]
    count = options.count(None if source.model.several else source.size)
    return sampling.draw(source, targets, testbed, count, options.seed, strata)


def _run(
    testbed: Testbed,
    targets: Targets,
    plan: Plan,
    shelf: Shelf,
    options: Options,
    workers: int | None,
    tell: Progress,
) -> None:
    """Run what is not kept yet, in batches of a few seconds."""
    done, total = shelf.experiments, len(plan)
    smallest = FIRST_BROAD_BATCH if options.engine in BROAD else FIRST_BATCH
    size = smallest
    looks = set(options.looks.sizes) if options.looks else set()
    while done < total:
        if done in looks and _enough(shelf, options):
            return
        stop = min([total, done + _rounded(size, plan.grain), *(n for n in looks if n > done)])
        faults = plan.take(np.arange(done, stop))
        more = _counter(tell, done, total)
        began = time.perf_counter()
        try:
            seen = testbed.run(options.engine, faults, workers=workers, progress=more)
        except (ClaimError, OSError) as error:
            raise _stopped(error, f"{done} of {total} experiments are kept") from None
        seconds = max(time.perf_counter() - began, 1e-6)
        shelf.append(_batch(testbed, targets, faults, seen), seconds)
        size = _next_size(size, smallest, seconds)
        done = stop


def _stopped(error: ClaimError | OSError, kept: str) -> ClaimError | InputError:
    """The error of an engine, with what is left of the campaign."""
    after = f"{kept}, the same command goes on"
    if isinstance(error, OSError):
        where = f"{printable(str(error.filename))}: " if error.filename else ""
        return InputError(f"{where}{error.strerror or error}; {after}")
    return ClaimError(f"{error}; {after}")


def _next_size(size: int, smallest: int, seconds: float) -> int:
    """The size of the next batch if the last one took so long. Each costs a fault-free run, so
    that a slow one is no reason to make them small."""
    if seconds < BATCH_S:
        return min(LARGEST_BATCH, 2 * size)
    return max(smallest, size // 2) if seconds > 20 * BATCH_S else size


def _rounded(size: int, grain: int) -> int:
    return -(-size // grain) * grain


def _counter(tell: Progress, done: int, total: int) -> Callable[[int], None]:
    tell("upsets", done, total)

    def more(number: int) -> None:
        nonlocal done
        done += number
        tell("upsets", done, total)

    return more


def _enough(shelf: Shelf, options: Options) -> bool:
    outcome = shelf.table().outcome
    critical = int((outcome == Outcome.SDC_CRITICAL).sum())
    return options.looks is not None and options.looks.enough(critical, len(outcome))


def _batch(testbed: Testbed, targets: Targets, faults: Faults, seen: Verdicts) -> Batch:
    return Batch(
        events=np.diff(faults.first),
        site=targets.owner[faults.target],
        bit=targets.position[faults.target],
        mode=faults.mode,
        start=faults.start,
        stop=faults.stop,
        input=testbed.input_of(faults.cycle),
        outcome=seen.outcome,
        inferences=seen.inferences,
        disorder=np.zeros(len(faults), np.uint8) if seen.disorder is None else seen.disorder,
        detection_cycles=seen.detection_cycles,
        critical=seen.critical,
    )


def _report(
    testbed: Testbed,
    targets: Targets,
    source: Population,
    table: Table,
    seconds: float,
    options: Options,
) -> Json:
    poisson = None
    if options.model.rate is not None:
        poisson = sampling.upsets_per_inference(source, testbed)
    setting = summary.Setting(
        engine=options.engine,
        seed=options.seed,
        confidence=options.confidence,
        seconds=seconds,
        initiation_interval=testbed.interval,
        source=source,
        exhaustive=options.exhaustive,
        strata=options.strata,
        looks=options.looks,
        poisson=poisson,
    )
    return summary.report(targets, table, setting)


def _write(path: Path, report: Json) -> None:
    """Write report.json; the whole file or none."""
    try:
        handle, name = tempfile.mkstemp(prefix=".report-", dir=path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(report, indent=1) + "\n")
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; cannot write the report") from None


def compare(first: Json, second: Json, confidence: float = 0.95) -> Json:
    """Ratio of the critical SDC of two reports, AVF x bits x II of `first` over that of `second`.

    {value, low, high, confidence, paired}; value and high are None where `second` shows no event.
    Paired, and so narrower, if both campaigns ran on the same inputs. InputError unless both are
    of single upsets.
    """
    if any(report["sdc_critical"]["vulnerable_bit_cycles"] is None for report in (first, second)):
        raise InputError("only campaigns of single upsets can be compared")
    sides = [
        statistics.Counts(
            np.array(report["per_input"]["sdc_critical"], np.int64),
            np.array(report["per_input"]["experiments"], np.int64),
            report["sites"] * report["initiation_interval"],
        )
        for report in (first, second)
    ]
    paired = first["inputs_digest"] == second["inputs_digest"]
    found = statistics.ratio(*sides, paired=paired, confidence=confidence)
    return {**vars(found), "confidence": confidence, "paired": paired}
