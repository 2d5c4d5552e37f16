"""Measured area: Yosys maps the Verilog, the cells are counted, the redundancy is traced."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..quant.errors import ClaimError, InputError
from ..sim import manifest as manifests
from . import redundancy, targets
from .netlist import Netlist
from .targets import Target
from .yosys import run

__all__ = ["check_design", "fresh", "synth", "synthesize", "write_json"]

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SOURCE = "design.v"
_MAPPED = "mapped.json"


def synthesize(verilog: Path, top: str, target: Target, *, workdir: Path) -> dict[str, Any]:
    """Map module `top` of a Verilog file for a target; everything is written inside `workdir`.

    Hierarchy is kept during mapping for modules with (* keep_hierarchy *) only and removed after
    it. Returns {target, luts, ffs, dsps, brams, carries, cells: {type: number}, lut_metric,
    seconds, netlist: path of the flat mapped JSON netlist}. Raises InputError if Yosys refuses.
    """
    if not _IDENTIFIER.fullmatch(top):
        raise InputError(f"top module {top!r} is not a Verilog identifier")
    workdir.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(verilog, workdir / _SOURCE)
    commands = [
        f"read_verilog -sv {_SOURCE}",
        *(command.format(top=top) for command in target.family.commands),
        "setattr -mod -unset keep_hierarchy",
        "flatten",
        "select A:top",
        f"write_json -selected -noscopeinfo {_MAPPED}",
    ]
    started = time.monotonic()
    run(commands, workdir=workdir, name="synth")
    seconds = time.monotonic() - started
    cells = Netlist.load(workdir / _MAPPED, top).count()
    return {
        "target": target.name,
        **target.family.count(cells),
        "cells": cells,
        "lut_metric": target.family.lut_metric,
        "seconds": round(seconds, 2),
        "netlist": str(workdir / _MAPPED),
    }


def synth(
    directory: Path,
    *,
    target: str | None = None,
    pnr: bool = False,
    seeds: Sequence[int] = (1, 2, 3),
    frequency_mhz: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Synthesise a build directory; the result is also written to DIR/synth_<target>.json.

    Returns {target, luts, ffs, dsps, brams, carries, fmax_mhz, seeds, bitstream, replicas,
    estimate, ...}; fmax_mhz is the median over the seeds, None without `pnr`. Raises InputError for
    a bad directory or target, ClaimError if a voter lost its replicas, the design does not fit
    (with `pnr`) or timing is not met.
    """
    tell = progress or (lambda _: None)
    manifest = manifests.load(directory)
    check_design(manifest)
    device = targets.find(target or str(manifest.raw.get("target", targets.DEFAULT)))
    if pnr and not device.pnr:
        raise InputError(f"--pnr works for ecp5 targets only, not for {device.name}")
    workdir = fresh(directory / f"synth_{device.name}")
    tell(f"synthesising for {device.name}")
    result = synthesize(manifest.verilog, manifest.top, device, workdir=workdir)
    netlist = Path(result.pop("netlist"))
    tell("tracing voters")
    result["replicas"] = _replicas(manifest, netlist, device, workdir)
    result["estimate"] = _estimate(directory, device.name)
    result |= {"fmax_mhz": None, "seeds": [], "bitstream": None}
    result["capacity"] = device.capacity
    if pnr:
        from .pnr import place_and_route

        _fits(result, device)
        tell(f"placing and routing with {len(seeds)} seeds")

        routed = place_and_route(
            netlist, device, clock=manifest.clock, seeds=seeds, frequency_mhz=frequency_mhz
        )
        result |= {"fmax_mhz": routed.fmax_mhz, "seeds": routed.to_json()}
        result["bitstream"] = _inside(routed.bitstream, directory)
    write_json(directory / f"synth_{device.name}.json", result)
    _claim(result, frequency_mhz)
    return result


def _fits(result: dict[str, Any], device: Target) -> None:
    excess = device.excess(result)
    if excess:
        raise ClaimError(f"the design does not fit {device.name}: {', '.join(excess)}")


def _claim(result: dict[str, Any], frequency_mhz: float | None) -> None:
    """ClaimError if a replica is missing or the clock is slower than asked for."""
    replicas, fmax = result["replicas"], result["fmax_mhz"]
    if replicas["found"] < replicas["expected"]:
        voter = next(voter for voter in replicas["voters"] if voter["problems"])
        raise ClaimError(
            f"{replicas['found']} of {replicas['expected']} voter bits kept their three replicas; "
            f"{voter['path']}: {voter['problems'][0]}"
        )
    if fmax is not None and frequency_mhz is not None and fmax < frequency_mhz:
        raise ClaimError(f"timing: the median clock is {fmax:.1f} MHz, asked for {frequency_mhz:g}")


def fresh(workdir: Path) -> Path:
    """An empty folder in place of an earlier one; a link may lead outside and is refused."""
    if workdir.is_symlink():
        raise InputError(f"{workdir}: is a link; remove it")
    if workdir.exists():
        shutil.rmtree(workdir)
    workdir.mkdir()
    return workdir


def check_design(manifest: manifests.Manifest) -> None:
    """InputError if the Verilog is not the one that the manifest describes."""
    found = hashlib.sha256(manifest.verilog.read_bytes()).hexdigest()
    if found != manifest.design:
        raise InputError(
            f"{manifest.verilog}: not the design that manifest.json describes; build it again"
        )


def _replicas(
    manifest: manifests.Manifest, netlist: Path, device: Target, workdir: Path
) -> dict[str, Any]:
    if not manifest.voters:
        return {"expected": 0, "found": 0, "constant": 0, "voters": []}
    reference = redundancy.elaborate(_SOURCE, manifest.top, workdir=workdir)
    mapped = Netlist.load(netlist, manifest.top)
    return redundancy.check(mapped, manifest.voters, reference, device.family)


def _estimate(directory: Path, target: str) -> Any:
    """The estimate that `build` made, None if there is none for this target."""
    path = directory / "report.json"
    if not path.is_file():
        return None
    try:
        report = json.loads(path.read_text())
    except ValueError:
        raise InputError(f"{path}: not JSON; build the directory again") from None
    if not isinstance(report, dict) or report.get("target") != target:
        return None
    return report.get("estimate")


def _inside(path: Path | None, directory: Path) -> str | None:
    return None if path is None else str(path.relative_to(directory))


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("x") as file:
            file.write(json.dumps(value, indent=1) + "\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
