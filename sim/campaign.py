"""Fault campaigns on a build directory: choose, run, audit, classify, keep, compare.

Single-event upsets, uniform over flip-flop bits x the cycles of one inference in steady state x
inputs. docs/faults.md defines every word of the report.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..quant.errors import ClaimError, InputError
from . import outcomes, statistics, store, summary
from .engines import native
from .faults import Faults
from .manifest import Words
from .outcomes import Observed, Outcome
from .steady import Prepared, prepare

__all__ = ["ENGINES", "compare", "run_campaign"]

ENGINES = ("native", "cocotb")
DEFAULT_MARGIN = 0.01
CONTROL_SINGLE, CONTROL_MANY = 256, 16

Progress = Callable[..., None]  # (what, done, total); the last two may be left out
Json = dict[str, Any]


def run_campaign(
    directory: Path,
    *,
    engine: str = "native",
    faults: int | None = None,
    margin: float | None = None,
    confidence: float = 0.95,
    inputs: int = 32,
    first_input: int = 0,
    seed: int = 0,
    audit: int = 200,
    inputs_file: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Json:
    """Flip bits, sort what happens, write DIR/campaigns/<id>/, return the report.

    `faults` upsets, or as many as +-`margin` (default 0.01) at `confidence` needs. Inputs are
    frames `first_input`.. of `inputs_file` (default DIR/vectors.npz), as many as there are up to
    `inputs`. `audit` experiments are repeated in cocotb. The same arguments give the same
    experiments and outcomes, whatever `workers` is.

    Raises InputError for bad arguments or a bad directory; ClaimError if the fault-free run is
    wrong, a flip did not land, the control experiments change nothing, or the audit cannot
    reproduce the golden run. Disagreements of the audit are counted in the report.
    """
    _check(engine, faults, margin, inputs, confidence)
    tell = progress or _silent
    tell("compiling the fault engine")
    prepared = prepare(Path(directory), inputs_file, inputs, first_input)
    count = faults or statistics.sample_size(margin or DEFAULT_MARGIN, confidence)
    chosen = _choose(prepared, count, seed)
    control = _control(prepared, seed)
    began = time.perf_counter()
    observed = _run(prepared, engine, chosen, workers, tell)
    seconds = time.perf_counter() - began
    classes = _classify(prepared, observed)
    table = _table(prepared, chosen, classes)
    setting = summary.Setting(engine, seed, confidence, seconds, prepared.initiation_interval)
    report = summary.report(prepared.model.design.registers, table, setting)
    report |= _origin(prepared) | {"control": control}
    tell("auditing in cocotb")
    report["audit"] = _audit(prepared, chosen, classes, 0 if engine == "cocotb" else audit, seed)
    return store.save(Path(directory), report, table)


def _silent(*_: object) -> None:
    pass


def _check(
    engine: str, faults: int | None, margin: float | None, inputs: int, confidence: float
) -> None:
    if engine not in ENGINES:
        raise InputError(f"engine must be one of {', '.join(ENGINES)}, not {engine}")
    if faults is not None and margin is not None:
        raise InputError("give either faults or margin")
    if faults is not None and faults < 1:
        raise InputError("faults must be at least 1")
    if margin is not None and not 0 < margin < 1:
        raise InputError("margin must lie between 0 and 1")
    if not 0 < confidence < 1:
        raise InputError("confidence must lie between 0 and 1")
    if inputs < 1:
        raise InputError("inputs must be at least 1")


def _choose(prepared: Prepared, count: int, seed: int) -> Faults:
    """Uniform, with replacement, over bits x window."""
    rng = np.random.default_rng(seed)
    start, stop = prepared.stimulus.window(prepared.golden)
    cycle = rng.integers(start, stop, count)
    return Faults.single(cycle, rng.integers(0, prepared.model.design.ff_bits, count))


def _control(prepared: Prepared, seed: int) -> Json:
    """Experiments of which some must fail: single flips, and flips of half of all bits."""
    rng = np.random.default_rng([seed, 1])
    bits, count = prepared.model.design.ff_bits, CONTROL_SINGLE + CONTROL_MANY
    start, stop = prepared.stimulus.window(prepared.golden)
    groups = [rng.integers(0, bits, 1) for _ in range(CONTROL_SINGLE)]
    groups += [np.flatnonzero(rng.integers(0, 2, bits)) for _ in range(CONTROL_MANY)]
    first = np.concatenate(([0], np.cumsum([len(group) for group in groups])))
    faults = Faults.flips(rng.integers(start, stop, count), first, np.concatenate(groups))
    play = prepared.stimulus
    observed = native.inject(prepared.model, play.words, play.timing, faults, workers=1)
    failed = int((_classify(prepared, observed) >= Outcome.FALSE_ALARM).sum())
    if not failed:
        raise ClaimError(
            "fault engine: no control experiment changes the output; no flip can count"
        )
    return {"experiments": count, "failed": failed}


def _run(
    prepared: Prepared, engine: str, faults: Faults, workers: int | None, tell: Progress
) -> Observed:
    play, finished = prepared.stimulus, 0

    def more(number: int) -> None:
        nonlocal finished
        finished += number
        tell("upsets", finished, len(faults))

    tell("upsets", 0, len(faults))
    if engine == "cocotb":
        return _cocotb(prepared, faults)
    return native.inject(
        prepared.model, play.words, play.timing, faults, workers=workers, progress=more
    )


def _cocotb(prepared: Prepared, faults: Faults) -> Observed:
    from .engines import cocotb  # needs cocotb installed

    play = prepared.stimulus
    return cocotb.inject(prepared.model, play.words, play.timing, faults, prepared.golden)


def _classify(prepared: Prepared, observed: Observed) -> Words:
    return outcomes.classify(observed, prepared.golden.words, prepared.model.manifest.output)


def _table(prepared: Prepared, faults: Faults, classes: Words) -> store.Table:
    design, play = prepared.model.design, prepared.stimulus
    owner = np.zeros((design.ff_bits, 2), np.int64)
    for number, register in enumerate(design.registers):
        for position, bit in enumerate(register.bits):
            owner[design.bit_numbers[bit.cell, bit.index]] = number, position
    frame = np.searchsorted(prepared.golden.done, faults.cycle)
    register, bit = owner[faults.target].T
    start, _ = play.window(prepared.golden)
    names = tuple(register.name for register in design.registers)
    inputs = play.inputs[frame - play.warm]
    return store.Table(names, register, bit, faults.cycle - start, inputs, classes)


def _audit(prepared: Prepared, faults: Faults, classes: Words, count: int, seed: int) -> Json:
    """Repeat `count` experiments in cocotb; masked and latent differ in no output and are one."""
    count = min(count, len(faults))
    if not count:
        return {"sampled": 0, "disagreements": 0, "differing": []}
    picks = np.sort(np.random.default_rng([seed, 2]).choice(len(faults), count, replace=False))
    sample = Faults.single(faults.cycle[picks], faults.target[picks])
    seen = _classify(prepared, _cocotb(prepared, sample))
    pairs = np.stack((classes[picks], seen))
    pairs[pairs == Outcome.LATENT] = Outcome.MASKED
    rows = np.flatnonzero(pairs[0] != pairs[1])
    differing = [
        {
            "experiment": int(picks[row]),
            "native": Outcome(pairs[0, row]).label,
            "cocotb": Outcome(pairs[1, row]).label,
        }
        for row in rows[:10]
    ]
    return {"sampled": count, "disagreements": len(rows), "differing": differing}


def _origin(prepared: Prepared) -> Json:
    found, play = prepared.model.manifest, prepared.stimulus
    return {
        "design": hashlib.sha256(found.verilog.read_bytes()).hexdigest(),
        "inputs_digest": hashlib.sha256(play.words.tobytes()).hexdigest(),
        "tools": store.versions(),
    }


def compare(first: Json, second: Json, confidence: float = 0.95) -> Json:
    """Ratio of the critical SDC of two reports, AVF x bits x II of `first` over that of `second`.

    {value, low, high, confidence, paired}; value and high are None where `second` shows no event.
    Paired, and so narrower, if both campaigns ran on the same inputs.
    """
    sides = [
        statistics.Counts(
            np.array(report["per_input"]["sdc_critical"], np.int64),
            np.array(report["per_input"]["experiments"], np.int64),
            report["ff_bits"] * report["initiation_interval"],
        )
        for report in (first, second)
    ]
    paired = first["inputs_digest"] == second["inputs_digest"]
    found = statistics.ratio(*sides, paired=paired, confidence=confidence)
    return {**vars(found), "confidence": confidence, "paired": paired}
