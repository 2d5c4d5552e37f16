"""A model becomes a build directory: graph, Verilog, manifest, vectors, report, cocotb bench."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from ..hw.config import ADDS_PER_RANK, LayerConfig, WindowedConfig, inlet
from ..hw.configure import Fold
from ..hw.join_config import JoinConfig
from ..hw.linear_config import LinearConfig
from ..hw.site import ROLES
from ..hw.timing import Timing
from ..hw.top import retries
from ..quant import serialize
from ..quant.errors import InputError
from ..quant.ir import Graph, IntArray
from ..quant.names import printable
from ..sim import sites, standalone
from ..sim.expected import random_frames
from . import targets
from .design import Design
from .emit import TOP, emit, voters
from .estimator import estimate_design
from .explain import explanation, rate
from .folding import Goal, folding_json
from .frames import read_frames
from .goals import folded_design
from .plan import Plan
from .plan_file import load_plan
from .sources import load_graph

__all__ = ["build", "build_design"]

SCHEMA = 1
FRAMES = 3
"""Frames whose last beats the manifest predicts."""
RANDOM_VECTORS = 32
DISTRIBUTIONS = ("tercet", "amaranth", "pyosys", "numpy")

Report = Callable[..., None]


def build(
    model: str,
    out: Path,
    *,
    calibration: Path | None = None,
    vectors: Path | None = None,
    target: str | None = None,
    plan: Path | None = None,
    fold: str = "auto",
    fps: float | None = None,
    fit: float | None = None,
    clock_mhz: float | None = None,
    trust_model: bool = False,
    explain: bool = False,
    quantisation: Mapping[str, Any] | None = None,
    progress: Report | None = None,
) -> dict[str, Any]:
    """Read MODEL and write the build directory `out`; the result is design.md's `build` JSON.

    `calibration` sets the ranges of a float model and scores neurons for the plan; `vectors` are
    the frames for `tercet verify` and `inject` (default: calibration, else random ones). `fold`
    is "auto" or a TOML file; `fps`, `fit` and `clock_mhz` as in `folding.Goal`; `explain` adds what
    each layer needs.
    Raises InputError naming the file, layer or option; nothing half-written stays behind.
    """
    tell = progress or _silent
    device, wish = targets.find(target or targets.DEFAULT), Goal(fold, fps, fit, clock_mhz)
    _check_output(out)
    hardening = load_plan(plan) if plan is not None else Plan()
    tell("reading the model")
    graph = load_graph(model, calibration, quantisation, trust_model)
    known = read_frames(graph, calibration)[0] if calibration is not None else None
    frames, labels = read_frames(graph, vectors) if vectors is not None else (known, None)
    tell("folding the layers")
    design = folded_design(graph, device, wish, hardening, known)
    result = build_design(
        design, out, target=device.name, frames=frames, labels=labels, progress=progress
    )
    result |= rate(result["initiation_interval"], wish, device)
    if explain:
        result |= explanation(design, result["estimate"], device)
    return result


def _silent(*args: object) -> None:
    """No progress is shown."""


def build_design(
    design: Design,
    out: Path,
    *,
    target: str = targets.DEFAULT,
    frames: IntArray | None = None,
    labels: IntArray | None = None,
    progress: Report | None = None,
) -> dict[str, Any]:
    """Write the build directory of a prepared design; as `build`, from Python."""
    tell = progress or _silent
    out = Path(out)
    _check_output(out)
    with _staged(out) as work:
        tell("writing the Verilog")
        verilog = emit(design.layers, work, design.watchdog)
        tell("naming every register")
        found = sites.enumerate(verilog, TOP, contents=False)
        registers = [register.to_json() for register in found]
        _check_roles(registers)
        timing = design.timing()
        cost = estimate_design(design, targets.find(target))
        manifest = _manifest(design, verilog, registers, timing, target)
        _dump(work / "manifest.json", manifest)
        serialize.save(design.graph, work / "graph.json")
        _vectors(work, design.graph, frames, labels)
        tell("writing the benches")
        standalone.write(work)
        result = {
            "design": manifest["design"],
            "target": target,
            "plan": manifest["plan"],
            "folding": manifest["folding"],
            "latency_cycles": timing.latency_cycles,
            "initiation_interval": timing.initiation_interval,
            "estimate": cost,
            "verilog": str(out / "top.v"),
            "manifest": str(out / "manifest.json"),
        }
        report = {**result, "verilog": "top.v", "manifest": "manifest.json"}
        _dump(work / "report.json", report)
    return result


def _check_output(out: Path) -> None:
    """The folder is new, empty, or an earlier build; and its parent can be written."""
    shown = printable(str(out))
    if out.exists() and not out.is_dir():
        raise InputError(f"{shown}: is a file; give a folder for the build")
    if out.is_dir() and any(out.iterdir()) and not _is_build(out):
        raise InputError(f"{shown}: holds something else than a build; give a new folder")
    parent = out.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{shown}: cannot be created: {error.strerror}") from None
    if not os.access(parent, os.W_OK):
        raise InputError(f"{shown}: its folder is not writable; choose another with -o")


def _is_build(folder: Path) -> bool:
    """Whether a folder was written by `build`, and may be replaced."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and {"schema", "design", "sites"} <= set(manifest)


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place at the end, and vanishes on an error."""
    target = out.absolute()
    try:
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        shown = printable(str(out))
        raise InputError(f"{shown}: cannot be written: {error.strerror}; choose another") from None
    try:
        yield work
        work.chmod(0o755)
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
            target.rename(old / "build")
            work.rename(target)
            shutil.rmtree(old)
        else:
            work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _check_roles(registers: list[dict[str, Any]]) -> None:
    without = [register["name"] for register in registers if register["role"] not in ROLES]
    assert not without, f"registers without a role: {without[:5]}"


def _manifest(
    design: Design,
    verilog: Path,
    registers: list[dict[str, Any]],
    timing: Timing,
    target: str,
) -> dict[str, Any]:
    layers, kind = design.layers, design.graph.input_type
    lanes, bits = inlet(layers)
    shape = design.graph.input_shape
    final = _stream(layers[-1], "o_", design.permutation)
    return {
        "schema": SCHEMA,
        "design": hashlib.sha256(verilog.read_bytes()).hexdigest(),
        "name": design.graph.name,
        "tools": _versions(),
        "target": target,
        "top": TOP,
        "verilog": verilog.name,
        "clock": "clk",
        "reset": "rst",
        "input": {
            **_signals("i_"),
            "err": None,
            "lanes": lanes,
            "lane_bits": bits,
            "signed": kind.signed,
            "bipolar": kind.bipolar,
            "beats": math.prod(shape) // lanes,
            "shape": list(shape),
            "permutation": None,
        },
        "output": final,
        "taps": [
            {"layer": layer.name, **_stream(layer, f"tap_{layer.name}_", design.permutation)}
            for layer in layers
        ],
        **_counters(layers),
        "layers": [_layer(layer, design.folding) for layer in layers],
        "latency_cycles": timing.latency_cycles,
        "initiation_interval": timing.initiation_interval,
        "spacings": list(timing.spacings),
        "last_beat_cycles": list(timing.last_beat_cycles[:FRAMES]),
        "sites": {
            "ff_bits": sum(register["width"] for register in registers),
            "registers": registers,
        },
        "voters": voters(layers, verilog.read_text()),
        "plan": design.plan.to_json(),
        "protection": {name: vars(guard) for name, guard in design.protection.items()},
        "folding": folding_json({layer.name: design.folding[layer.name] for layer in layers}),
    }


def _counters(layers: tuple[LayerConfig, ...]) -> dict[str, Any]:
    """Where a bench sees that something was computed again: a port, and a wire for each layer."""
    names = retries(layers)
    if not names:
        return {}
    wires = {name: f"retry_{name}" for name in names}
    return {"counters": {"retried": "o_retried"}, "retries": wires}


def _signals(prefix: str) -> dict[str, str]:
    names = ("valid", "ready", "data", "first", "last", "err")
    return {name: f"{prefix}{name}" for name in names}


def _stream(layer: LayerConfig, prefix: str, permutation: Mapping[str, IntArray]) -> dict[str, Any]:
    order = permutation.get(layer.name)
    return {
        **_signals(prefix),
        "lanes": layer.out_lanes,
        "lane_bits": layer.out_bits,
        "signed": layer.out_signed,
        "bipolar": layer.out_bipolar,
        "beats": layer.beats_per_frame,
        "shape": list(layer.out_shape),
        "permutation": None if order is None else order.tolist(),
    }


def _layer(layer: LayerConfig, folding: Mapping[str, Fold]) -> dict[str, Any]:
    window = layer.window if isinstance(layer, WindowedConfig) else None
    buffered = window is not None and not layer.direct
    return {
        "name": layer.name,
        "op": layer.op,
        "sources": [source or None for source in layer.sources],
        "folding": vars(folding[layer.name]),
        "initiation_interval": layer.cycles_per_frame,
        "macs": getattr(layer, "macs", 0),
        "out_lanes": layer.out_lanes,
        "buffer_words": window.depth if window and buffered else 0,
        "buffer_copies": window.ports if window and buffered else 0,
        "skip_words": [o.depth for o in layer.operands] if isinstance(layer, JoinConfig) else [],
        "fifo_beats": layer.fifo_beats,
        "schedule": {
            "windows": window.windows if window else layer.groups_per_frame,
            "passes": sum(layer.leaving) if window else 1,
            "steps": layer.steps,
            "beats": layer.beats,
            "repeated": list(getattr(layer, "repeated", ())),
            "multiply": _multiply(layer),
        },
    }


def _multiply(layer: LayerConfig) -> dict[str, Any] | None:
    """When a step is where, in cycles after its issue; None for a layer without multipliers."""
    if not isinstance(layer, LinearConfig) or layer.multiplier == "shift":
        return None
    return {
        "issued": f"{layer.name}.sequencer.valid_1",
        "lanes": layer.pe,
        "voted": list(layer.voted),
        "adds": ADDS_PER_RANK,
        "weight": 2,
        "product": 3,
        "accumulator": layer.lane_cycles,
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "source"
    return found


def _vectors(work: Path, graph: Graph, frames: IntArray | None, labels: IntArray | None) -> None:
    """Frames for the benches; random ones (seed 0) where the user gave none."""
    if frames is None:
        frames = random_frames(graph, RANDOM_VECTORS, 0)
    arrays = {"x": np.asarray(frames, dtype=np.int64)}
    if labels is not None:
        arrays["labels"] = np.asarray(labels, dtype=np.int64)
    np.savez_compressed(work / "vectors.npz", **arrays)  # type: ignore[arg-type]


def _dump(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")
