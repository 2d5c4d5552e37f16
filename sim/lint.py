"""Verilator's lint over a generated design, less the warnings that are meant so.

Every waiver has its reason; what is left is a mistake in the circuits or in their emission. Works
on anyone's Verilog: `lint(Path("top.v"))`.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ..quant.errors import InputError
from ..quant.names import printable
from . import toolchain

__all__ = ["WAIVERS", "Waiver", "lint"]

TIMEOUT_S = 300
_LINE = re.compile(r"^%(Warning|Error)(?:-([A-Z0-9]+))?: (?:[^:]*/)?(.*)$")


@dataclass(frozen=True)
class Waiver:
    """Warnings of `rule` whose message matches the pattern `match` (with *), and why."""

    rule: str
    match: str
    reason: str


WAIVERS = (
    Waiver("UNUSEDSIGNAL", "*", "taps and stream fields are named to be watched by a bench"),
    Waiver("PROCASSINIT", "*", "control starts at its reset value: FPGAs load it with the design"),
    Waiver("DECLFILENAME", "*", "one file holds the whole design"),
    Waiver("VARHIDDEN", "*", "a register may have the name of an instance in the module above"),
    Waiver("WIDTHEXPAND", "*", "Verilog extends an operand by its sign, as Amaranth meant it"),
    Waiver("WIDTHTRUNC", "Logical operator LOGNOT *", "!x is how Yosys writes x == 0"),
    Waiver("WIDTHTRUNC", "* SHIFTR generates *", "bit 0 of x >> n is how Yosys writes x[n]"),
)


def lint(verilog: Path, top: str = "top") -> list[str]:
    """Warnings and errors of `verilator --lint-only -Wall` that no waiver covers, one line each.

    A line is RULE: file:line:column: message. Raises InputError when the file or Verilator is
    missing.
    """
    if not verilog.is_file():
        raise InputError(f"{printable(str(verilog))}: no such Verilog file")
    tool = toolchain.verilator()
    with TemporaryDirectory(prefix="tercet-lint-") as folder:
        waivers = Path(folder) / "waivers.vlt"
        waivers.write_text(_configuration())
        command = [tool.program, "--lint-only", "-Wall", "--top-module", top, waivers]
        done = subprocess.run(
            [*map(str, command), str(verilog.resolve())],
            cwd=folder,
            env=tool.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
        )
    found = [_LINE.match(line) for line in done.stderr.splitlines()]
    lines = [f"{hit[2] or hit[1].upper()}: {_shown(hit[3])}" for hit in found if hit]
    if done.returncode and not lines:
        lines = [f"ERROR: Verilator ended with status {done.returncode}"]
    return [line for line in lines if "Exiting due to" not in line]


def _shown(message: str) -> str:
    """The message without control characters; a stranger's Verilog has names of its own."""
    return "".join(c if c.isprintable() else "?" for c in message)


def _configuration() -> str:
    """The waivers as a Verilator configuration file."""
    lines = ["`verilator_config"]
    for waiver in WAIVERS:
        place = f'-rule {waiver.rule} -file "*" -match "{waiver.match}"'
        lines += [f"// {waiver.reason}", f"lint_off {place}"]
    return "\n".join(lines) + "\n"
