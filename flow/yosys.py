"""Yosys in a process of its own: pyosys has no undo for an error and prints to the terminal.

`python -P -m tercet.flow.yosys FILE` runs the commands of FILE, one a line.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ..quant.errors import InputError
from ..quant.names import printable

__all__ = ["run"]


def run(commands: Sequence[str], *, workdir: Path, name: str) -> Path:
    """Run Yosys commands inside `workdir`; file names in them are relative to it.

    Writes `name`.ys and `name`.log there and returns the log's path. Raises InputError with Yosys's
    own error line if a command fails, or the fix if pyosys is missing.
    """
    if importlib.util.find_spec("pyosys") is None:
        raise InputError("synthesis needs pyosys; run: pip install 'tercet[synth]'")
    script, log = workdir / f"{name}.ys", workdir / f"{name}.log"
    script.write_text("".join(f"{command}\n" for command in commands))
    argv = [sys.executable, "-P", "-m", __spec__.name, script.name]
    with log.open("w") as sink:
        done = subprocess.run(
            argv, cwd=workdir, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT
        )
    if done.returncode:
        raise InputError(f"Yosys: {_reason(log, done.returncode)} (see {log})")
    return log


def _reason(log: Path, status: int) -> str:
    """The error line of a log, or the exit status if there is none."""
    lines = log.read_text(errors="replace").splitlines()
    for line in reversed(lines):
        if "ERROR: " in line:
            return printable(line.replace("ERROR: ", ""))
    return f"ended with status {status}: {printable(lines[-1] if lines else 'no output')}"


def _main(script: Path) -> None:
    from pyosys import libyosys

    design = libyosys.Design()
    for command in script.read_text().splitlines():
        libyosys.run_pass(command, design)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
