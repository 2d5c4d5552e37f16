"""Fault campaigns: choose experiments, run and keep them batch by batch, audit, report, compare.

docs/faults.md defines every word of the report.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..quant.errors import ClaimError, InputError
from ..quant.ir import IntArray
from ..quant.names import printable
from . import audit, sampling, statistics, store, summary
from .faults import Faults
from .outcomes import Outcome
from .sampling import Complete, FaultModel, Listed, Population
from .steady import Stalls
from .store import Batch, Shelf, Table
from .targets import Targets
from .testbed import StreamTestbed, Testbed, Verdicts

__all__ = ["Options", "compare", "run_campaign", "run_on"]

DEFAULT_MARGIN = 0.01
BATCH_S = 4.0
FIRST_BATCH, LARGEST_BATCH = 4000, 1 << 20
BROAD, FIRST_BROAD_BATCH = ("bitparallel", "exhaustive"), 1 << 16
"""Engines that need many experiments at a time."""
STRATA = ("none", "role", "layer")

Progress = Callable[..., None]  # (what, done, total); the last two may be left out
Json = dict[str, Any]
Plan = Listed | Complete


@dataclass(frozen=True)
class Options:
    """What a campaign does, whatever the design; InputError for options that contradict.

    `faults` experiments, or as many as +-`margin` (default 0.01) at `confidence` needs, or until
    the interval of the critical rate is within +-`until`, or all single upsets (`exhaustive`).
    Engine `exhaustive` is the fast one for that. `strata` is none, role or layer. `audit`
    experiments are repeated in cocotb.
    """

    engine: str = "native"
    faults: int | None = None
    margin: float | None = None
    until: float | None = None
    exhaustive: bool = False
    confidence: float = 0.95
    strata: str = "none"
    seed: int = 0
    audit: int = audit.DEFAULT
    model: FaultModel = field(default_factory=FaultModel)

    def __post_init__(self) -> None:
        sizes = {"faults": self.faults, "margin": self.margin, "until": self.until}
        given = [name for name, value in sizes.items() if value is not None]
        given += ["exhaustive"] * self.exhaustive
        if len(given) > 1:
            raise InputError(f"give either {' or '.join(given)}, not both")
        if self.faults is not None and self.faults < 1:
            raise InputError("faults must be at least 1")
        for name, value in (("margin", self.margin), ("until", self.until)):
            if value is not None and not 0 < value < 1:
                raise InputError(f"{name} must lie between 0 and 1")
        if not 0 < self.confidence < 1:
            raise InputError("confidence must lie between 0 and 1")
        if self.audit < 0:
            raise InputError("audit must be 0 or more")
        if self.seed < 0:
            raise InputError("seed must be 0 or more")
        if self.strata not in STRATA:
            raise InputError(f"strata must be one of {', '.join(STRATA)}")
        self._check_combinations()

    def _check_combinations(self) -> None:
        model = self.model
        if self.exhaustive and (model.several or model.kind not in ("seu", "memory", "config")):
            raise InputError("exhaustive is for single upsets: fault seu, memory or config")
        if self.strata != "none" and (self.exhaustive or self.until is not None or model.several):
            raise InputError(
                "strata is for a sample of fixed size: not with exhaustive, until, per-inference "
                "or rate"
            )
        if self.engine == "exhaustive" and not (self.exhaustive and model.kind == "seu"):
            raise InputError("engine exhaustive is for exhaustive campaigns of fault seu")

    @property
    def looks(self) -> statistics.Looks | None:
        """When to look whether the sample is large enough."""
        return None if self.until is None else statistics.Looks(self.until, self.confidence)

    def count(self, everything: int | None) -> int:
        """Number of experiments; `everything` is the number of different faults, if finite."""
        if self.faults is not None:
            return self.faults
        if self.looks is not None:
            return min(self.looks.sizes[-1], everything or self.looks.sizes[-1])
        margin = self.margin or DEFAULT_MARGIN
        return statistics.sample_size(margin, self.confidence, everything)

    def to_json(self) -> Json:
        """The options as they are kept with the campaign."""
        return {**vars(self), "model": {k: v for k, v in vars(self.model).items() if v}}


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
    **options: Any,
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
    with Shelf(path) as shelf:
        kept = shelf.report if shelf.begun else None
        if kept is not None and resume:
            return kept
        if kept is not None or not shelf.begun:
            shelf.create(header, targets.sites)
        plan = _plan(source, targets, testbed, options)
        control = audit.control(testbed, options.engine, options.seed)
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


def _header(testbed: Testbed, options: Options) -> Json:
    """All that the results depend on."""
    header = testbed.origin | {"arguments": options.to_json(), "tools": store.versions()}
    return dict(json.loads(json.dumps(header)))


def _nothing_to_resume(directory: Path, header: Json) -> str:
    """Why there is nothing to go on with, and how the nearest campaign differs."""
    others = []
    for path in sorted((directory / "campaigns").glob("*/campaign.sqlite")):
        with Shelf(path, read_only=True) as shelf:
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
    size = FIRST_BROAD_BATCH if options.engine in BROAD else FIRST_BATCH
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
        except ClaimError as error:
            kept = f"{done} of {total} experiments are kept, the same command goes on"
            raise ClaimError(f"{error}; {kept}") from None
        seconds = max(time.perf_counter() - began, 1e-6)
        shelf.append(_batch(testbed, targets, faults, seen), seconds)
        size = min(LARGEST_BATCH, max(FIRST_BATCH, int(BATCH_S * (stop - done) / seconds)))
        done = stop


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
