"""What proves or refutes a miter: Yosys's `sat`, and ABC's model checkers out of the same wheel."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import subprocess
import time
from pathlib import Path

from amaranth.back import rtlil

from tercet.flow.yosys import run

from .miter import Miter

__all__ = ["Answer", "Counterexample", "bounded", "induction", "reachability"]


@dataclasses.dataclass(frozen=True)
class Counterexample:
    """Values of the miter's inputs in each cycle: {port: value}, bits that do not matter 0."""

    cycles: tuple[dict[str, int], ...]


@dataclasses.dataclass(frozen=True)
class Answer:
    """Whether the claim is `proved`, how far (`depth`), in what time; else a counterexample."""

    proved: bool
    method: str
    seconds: float
    counterexample: Counterexample | None = None


def _write(miter: Miter, workdir: Path) -> list[str]:
    """Commands that read the miter flat."""
    text = rtlil.convert(miter.module(), name="miter", ports=miter.ports, emit_src=False)
    (workdir / "miter.il").write_text(text)
    copies = {"creator": "tercet", "modules": miter.modules()}
    (workdir / "copies.json").write_text(json.dumps(copies))
    return [
        "read_json copies.json",
        "read_rtlil miter.il",
        "hierarchy -check -top miter",
        "proc",
        "flatten",
        "opt_expr",
        "opt_clean",
    ]


def induction(miter: Miter, workdir: Path, *, most: int = 6) -> Answer:
    """Claim and invariant by temporal induction from the start, length 1..`most` (`sat`)."""
    begin = time.monotonic()
    sat = f"sat -tempinduct -prove inductive 1 -maxsteps {most} miter"
    log = run([*_write(miter, workdir), sat], workdir=workdir, name="induction").read_text()
    seconds = time.monotonic() - begin
    lengths = re.findall(r"Trying induction with length (\d+)", log)
    proved = "Induction step proven: SUCCESS!" in log
    return Answer(proved, f"induction, k = {lengths[-1] if lengths else 0}", seconds)


def reachability(miter: Miter, workdir: Path) -> Answer:
    """The claim in every reachable state, with an invariant that ABC's `pdr` finds."""
    begin = time.monotonic()
    text, found = _abc(miter, workdir, "scorr; dc2; pdr -T 300")
    proved = "Property proved" in text or "are trivially UNSAT" in text
    return Answer(proved, "all depths (pdr)", time.monotonic() - begin, found)


def bounded(miter: Miter, workdir: Path, *, depth: int) -> Answer:
    """The claim in the first `depth` cycles of every sequence (ABC's `bmc3`)."""
    begin = time.monotonic()
    text, found = _abc(miter, workdir, f"scorr; dc2; bmc3 -c -F {depth}")
    proved = f"No output asserted in {depth} frames" in text or "solved" in text
    return Answer(proved and found is None, f"to depth {depth}", time.monotonic() - begin, found)


def _abc(miter: Miter, workdir: Path, script: str) -> tuple[str, Counterexample | None]:
    """ABC's answer, and the inputs of a counterexample."""
    commands = [
        *_write(miter, workdir),
        "delete -port w:inductive",
        "opt -full -nodffe -nosdff",
        "techmap",
        "opt -full -nodffe -nosdff",
        "dffunmap",
        "aigmap",
        "delete t:$scopeinfo",
        "opt_clean",
        "write_aiger -zinit -map miter.map miter.aig",
    ]
    run(commands, workdir=workdir, name="aiger")
    found = workdir / "found.cex"
    found.unlink(missing_ok=True)
    script = f"read_aiger miter.aig; {script}; write_cex -n {found.name}"
    done = subprocess.run(
        [str(_binary()), "-c", script], cwd=workdir, capture_output=True, text=True, check=True
    )
    if "was asserted in frame" not in done.stdout:
        return done.stdout, None
    return done.stdout, _counterexample((workdir / "miter.map").read_text(), found.read_text())


def _binary() -> Path:
    """ABC as it comes with pyosys."""
    spec = importlib.util.find_spec("pyosys")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "yosys-abc"


def _counterexample(names: str, found: str) -> Counterexample:
    inputs = {}
    for line in names.splitlines():
        kind, index, *rest = line.split()
        if kind == "input":
            inputs[int(index)] = (int(rest[0]), rest[1])
    cycles: dict[int, dict[str, int]] = {}
    for index, cycle, value in re.findall(r"^pi(\d+)@(\d+)=([01])", found, re.MULTILINE):
        bit, name = inputs[int(index)]
        values = cycles.setdefault(int(cycle), {})
        values[name] = values.get(name, 0) | int(value) << bit
    return Counterexample(tuple(cycles[n] for n in sorted(cycles)))
