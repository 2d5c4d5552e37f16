"""A cocotb bench that is not ours, run as it is on a design inside a thin wrapper.

The wrapper samples all ports at each rising edge, as a flip-flop would, and leaves the design's
pins open: the bench drives the ports of the instance. Every variable is visible to the bench. The
program is cocotb's own with strikes.cpp before its main loop.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...quant.errors import ClaimError, InputError
from ...quant.names import printable
from .. import cache, runner, verilate
from ..manifest import Words
from ..trace import Port, Trace
from .source import Source

__all__ = ["Bench", "build", "record", "simulate"]

WRAPPER = "tercet_top"
WALL_S = 600
MAX_CYCLES = 1_000_000
EVALUATION = "                top->eval_step();\n"
TOO_LONG, NO_VARIABLE, NOT_GOLDEN = 3, 4, 5  # exit statuses of strikes.cpp


@dataclass(frozen=True)
class Bench:
    """A design compiled for a bench: `path` of the bench's file, `flag` an output that reports an
    error, `max_cycles` after which the fault-free run is given up."""

    source: Source
    path: Path
    program: Path
    flag: str | None = None
    max_cycles: int = MAX_CYCLES


def build(
    source: Source, path: Path, *, flag: str | None = None, max_cycles: int = MAX_CYCLES
) -> Bench:
    """Compile the design for the cocotb module `path`; InputError for what cannot be run."""
    if not path.is_file():
        raise InputError(f"{printable(str(path))}: no such bench")
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise InputError(f"{printable(str(path))}: a bench is a file NAME.py, NAME an identifier")
    if flag is not None:
        source.port(flag, source.outputs, "output")
    plain = () if source.name.endswith(".sv") else ("--default-language", "1364-2005")
    recipe = runner.cocotb_recipe(
        {source.name: source.text, "tercet_top.v": _wrapper(source, flag)},
        WRAPPER,
        verilator_flags=("--public-flat-rw", "--x-assign", "0", "-Wno-lint", *plain),
        link=("-rdynamic",),
        main=lambda text: _main(source, text),
    )
    return Bench(source, path.resolve(), verilate.executable(recipe), flag, max_cycles)


def _wrapper(source: Source, flag: str | None) -> str:
    """The wrapper: ports in the layout of a row of a trace, the first one lowest."""
    dut = source.top
    lines = [f"module {WRAPPER};", f"  {dut} {dut}();", "  reg [31:0] tercet_edges = 0;"]
    for name, ports in (("stimulus", source.inputs), ("response", source.outputs)):
        parts = [f"{{{8 * p.bytes}'d0 | {dut}.{p.name}}}" for p in reversed(ports)] or ["8'd0"]
        bits = 8 * max(1, _bytes(ports))
        lines += [f"  reg [{bits - 1}:0] tercet_{name};"]
        lines += [f"  wire [{bits - 1}:0] tercet_{name}_now = {{{', '.join(parts)}}};"]
    raised = f"(|{dut}.{flag})" if flag else "1'b0"
    lines += ["  reg tercet_before = 0;", f"  wire tercet_flagged = tercet_before | {raised};"]
    lines += [f"  always @(posedge {dut}.{source.clock}) begin"]
    lines += ["    tercet_edges <= tercet_edges + 1;", "    tercet_before <= tercet_flagged;"]
    lines += [f"    tercet_{name} <= tercet_{name}_now;" for name in ("stimulus", "response")]
    return "\n".join([*lines, "  end", "endmodule", ""])


def _bytes(ports: Sequence[Port]) -> int:
    return sum(port.bytes for port in ports)


def _main(source: Source, text: str) -> str:
    """cocotb's main program with the strikes before its loop."""
    if text.count(EVALUATION) != 1 or "\nint main(" not in text:
        raise InputError("this cocotb is not known: pip install 'tercet[sim]'")
    place = f"state.top->rootp->{WRAPPER}__DOT__tercet_"
    names = ("edges", "flagged", "stimulus", "response", "stimulus_now", "response_now")
    macros = [f"#define TERCET_{name.upper()} ({place}{name})" for name in names]
    macros += [f"#define TERCET_STIMULUS_BYTES {_bytes(source.inputs)}u"]
    macros += [f"#define TERCET_RESPONSE_BYTES {_bytes(source.outputs)}u", ""]
    strikes = Path(__file__).with_name("strikes.cpp").read_text()
    text = text.replace(EVALUATION, EVALUATION + "                tercet::after_eval(top.get());\n")
    return text.replace("\nint main(", "\n" + "\n".join(macros) + strikes + "\nint main(", 1)


def record(bench: Bench) -> Trace:
    """The fault-free run, made twice.

    Raises ClaimError if the bench fails; InputError if it does not end, does not drive the clock,
    has no test, raises the flag, or runs differently the second time.
    """
    rows, failure = _record(bench)
    if failure:
        raise failure
    again, _ = _record(bench)
    if not np.array_equal(rows, again):
        raise InputError(
            f"{bench.path.name}: two runs differ; take random numbers from `random` only, which "
            "cocotb seeds, and nothing from the time of day"
        )
    split = _bytes(bench.source.inputs)
    clock, inputs, outputs = bench.source.clock, bench.source.inputs, bench.source.outputs
    trace = Trace(clock, inputs, outputs, rows[:, :split].copy(), rows[:, split:].copy())
    if bench.flag is not None and trace.column(bench.flag).any():
        raise InputError(f"{bench.path.name}: {bench.flag} is raised in the run without a fault")
    return trace


def _record(bench: Bench) -> tuple[Words, Exception | None]:
    """Rows of a trace side by side uint8 [cycles, bytes], and why the run is of no use."""
    width = _bytes(bench.source.inputs) + _bytes(bench.source.outputs)
    with cache.scratch() as work:
        header = np.array([bench.max_cycles, 1, WALL_S, 0, 0, 0, 0], "<u4")
        (work / "job").write_bytes(header.tobytes())
        status = simulate(bench, work, WALL_S)
        failure = _failure(bench, work, status)
        file = work / "trace"
        raw = np.frombuffer(file.read_bytes() if file.is_file() else b"", np.uint8)
        rows = raw.reshape(-1, width)
        return rows, failure or _unclocked(bench, len(rows) - 1)


def _unclocked(bench: Bench, edges: int) -> Exception | None:
    if edges > 0:
        return None
    clock = bench.source.clock
    return InputError(
        f"{bench.path.name}: no rising edge of {clock}; start Clock(dut.{clock}, 10, 'ns')"
    )


def _failure(bench: Bench, work: Path, status: int | None) -> Exception | None:
    """What went wrong in a run without a fault, if anything did."""
    name = bench.path.name
    if status is None:
        return InputError(f"{name}: did not end in {WALL_S} s; end the bench")
    if status == TOO_LONG:
        return InputError(
            f"{name}: did not end in {bench.max_cycles:,} cycles; end the bench or raise "
            "--max-cycles"
        )
    verdicts = runner.verdicts(work / "results.xml")
    if not verdicts:
        lines = (work / "log.txt").read_text(errors="replace").strip().splitlines() or ["no output"]
        if any("No tests were discovered in any module" in line for line in lines):
            return InputError(
                f"{name}: no test; write `@cocotb.test()` before `async def ...(dut)`"
            )
        reasons = [line for line in lines if re.match(r"\s*\w*(Error|Exception)\b", line)]
        return InputError(f"{name}: cannot be run: {printable((reasons or lines)[-1].strip())}")
    if all(why == "skipped" for why in verdicts.values()):
        return InputError(f"{name}: all its tests are skipped")
    for test, why in verdicts.items():
        if "contains no child object named" in why:
            return InputError(f"{name}: {printable(test)}: {printable(why)}")
        if why and why != "skipped":
            return ClaimError(f"{name}: without a fault {printable(test)} fails: {printable(why)}")
    return None


def simulate(bench: Bench, work: Path, timeout_s: float) -> int | None:
    """Run the program in `work`, which holds the job; its exit status, None if it took too long.

    PYTHONPATH is the bench's own folder and ours, without the current directory (unless the bench
    lies there); the random seed and the order of sets are fixed.
    """
    environment = runner.environment(f"tercet.sim.benches.record,{bench.path.stem}", WRAPPER, work)
    folders = (str(bench.path.parent), environment["PYTHONPATH"])
    environment["PYTHONPATH"] = os.pathsep.join(folders)
    environment |= {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"TERCET_FOLDER": str(work), "TERCET_DESIGN": bench.source.top}
    with (work / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [str(bench.program), "+verilator+rand+reset+0", "+verilator+seed+1"],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the program and the children that it forked."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
