"""Fault campaigns on a build directory: choose, run, audit, classify, keep, compare.

Single-event upsets, uniform over flip-flop bits x the cycles of one inference in steady state x
inputs. docs/faults.md defines every word of the report.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..quant.errors import ClaimError, InputError
from . import statistics, store, summary
from .faults import Faults
from .manifest import Words
from .outcomes import Outcome
from .steady import prepare
from .testbed import StreamTestbed, Testbed

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
    testbed = StreamTestbed(prepare(Path(directory), inputs_file, inputs, first_input))
    count = faults or statistics.sample_size(margin or DEFAULT_MARGIN, confidence)
    chosen = _choose(testbed, count, seed)
    control = _control(testbed, engine, seed)
    began = time.perf_counter()
    classes = _run(testbed, engine, chosen, workers, tell)
    seconds = time.perf_counter() - began
    table = _table(testbed, chosen, classes)
    setting = summary.Setting(engine, seed, confidence, seconds, testbed.interval)
    report = summary.report(testbed.registers, table, setting)
    report |= testbed.origin | {"tools": store.versions(), "control": control}
    tell("auditing in cocotb")
    report["audit"] = _audit(testbed, chosen, classes, 0 if engine == "cocotb" else audit, seed)
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


def _choose(testbed: Testbed, count: int, seed: int) -> Faults:
    """Uniform, with replacement, over bits x window."""
    rng = np.random.default_rng(seed)
    cycle = rng.integers(*testbed.window, count)
    return Faults.single(cycle, rng.integers(0, testbed.space.ff_bits, count))


def _control(testbed: Testbed, engine: str, seed: int) -> Json:
    """Experiments of which some must fail: single flips, and flips of half of all bits."""
    rng = np.random.default_rng([seed, 1])
    bits, count = testbed.space.ff_bits, CONTROL_SINGLE + CONTROL_MANY
    groups = [rng.integers(0, bits, 1) for _ in range(CONTROL_SINGLE)]
    groups += [np.flatnonzero(rng.integers(0, 2, bits)) for _ in range(CONTROL_MANY)]
    first = np.concatenate(([0], np.cumsum([len(group) for group in groups])))
    cycle = rng.integers(*testbed.window, count)
    seen = testbed.run(engine, Faults.flips(cycle, first, np.concatenate(groups)), workers=1)
    failed = int((seen.outcome >= Outcome.FALSE_ALARM).sum())
    if not failed:
        raise ClaimError(
            "fault engine: no control experiment changes the output; no flip can count"
        )
    return {"experiments": count, "failed": failed}


def _run(
    testbed: Testbed, engine: str, faults: Faults, workers: int | None, tell: Progress
) -> Words:
    finished = 0

    def more(number: int) -> None:
        nonlocal finished
        finished += number
        tell("upsets", finished, len(faults))

    tell("upsets", 0, len(faults))
    return testbed.run(engine, faults, workers=workers, progress=more).outcome


def _table(testbed: Testbed, faults: Faults, classes: Words) -> store.Table:
    owner = np.zeros((testbed.space.ff_bits, 2), np.int64)
    for number, register in enumerate(testbed.registers):
        for position, bit in enumerate(register.bits):
            owner[testbed.numbers[bit.cell, bit.index]] = number, position
    register, bit = owner[faults.target].T
    names = tuple(register.name for register in testbed.registers)
    cycle = faults.cycle - testbed.window[0]
    return store.Table(names, register, bit, cycle, testbed.input_of(faults.cycle), classes)


def _audit(testbed: Testbed, faults: Faults, classes: Words, count: int, seed: int) -> Json:
    """Repeat `count` experiments in cocotb; masked and latent differ in no output and are one."""
    count = min(count, len(faults))
    if not count:
        return {"sampled": 0, "disagreements": 0, "differing": []}
    picks = np.sort(np.random.default_rng([seed, 2]).choice(len(faults), count, replace=False))
    seen = testbed.run("cocotb", faults.take(picks)).outcome
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
