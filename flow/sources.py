"""Where a design comes from: a model with its options, or a build directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..hw.config import MODULI
from ..hw.configure import Fold, Protection, circuit_nodes
from ..hw.fold import UNPROTECTED
from ..quant import serialize
from ..quant.errors import InputError
from ..quant.ir import Conv2d, Dense, Graph
from ..quant.names import printable
from ..sim import manifest as manifests
from .design import Design, arrange
from .folding import Goal
from .frames import read_frames
from .goals import folded_design
from .plan import Plan
from .plan_file import CHOICES, FORMS, MODES, RETRIES, VOTERS, load_plan, parse_plan
from .targets import Target

__all__ = ["built_design", "load_graph", "model_design"]


def model_design(
    model: str,
    *,
    target: Target,
    plan: Path | None,
    goal: Goal,
    calibration: Path | None,
    quantisation: Mapping[str, Any] | None,
    trust_model: bool,
) -> Design:
    """The design that `tercet build` would make of MODEL. Raises InputError naming the option."""
    hardening = load_plan(plan) if plan is not None else Plan()
    graph = load_graph(model, calibration, quantisation, trust_model)
    frames = read_frames(graph, calibration)[0] if calibration is not None else None
    return folded_design(graph, target, goal, hardening, frames)


def load_graph(
    model: str,
    calibration: Path | None = None,
    quantisation: Mapping[str, Any] | None = None,
    trust_model: bool = False,
) -> Graph:
    """The integer graph of MODEL, quantised if it is a float model.

    Raises InputError naming the file, the layer or the option.
    """
    if model.endswith(".json") and quantisation:
        raise InputError(
            f"--{next(iter(quantisation)).replace('_', '-')}: {printable(model)} is quantised "
            "already; quantisation options are for float models"
        )
    if model.endswith(".json") and Path(model).is_file():
        return serialize.load(Path(model))
    # The importers take their time to load; a graph does not need them.
    from ..quant.importers.model_file import load_model
    from ..quant.quant_config import QuantConfig

    config = QuantConfig(**quantisation) if quantisation else None
    return load_model(model, calibration=calibration, config=config, trust_model=trust_model)


def built_design(directory: Path, *, plan: Path | None, goal: Goal) -> tuple[Design, str]:
    """The design in a build directory, and the target that it was built for.

    Raises InputError naming the file and the key.
    """
    shown = printable(str(directory))
    if plan is not None or goal.asks:
        raise InputError(f"{shown}: a build directory has its own plan and folding; give its model")
    manifest = manifests.load(directory)
    graph = serialize.load(manifests.inside(directory, "graph.json", directory / "manifest.json"))
    raw, where = manifest.raw, f"{shown}/manifest.json"
    folding = _folding(where, raw.get("folding"), graph)
    stated = parse_plan(raw.get("plan", {}), f"{where}: plan")
    protection = _protection(where, raw.get("protection"), graph)
    target = raw.get("target")
    if not isinstance(target, str):
        raise InputError(f"{where}: target must be a string; build the directory again")
    return arrange(graph, folding, stated, protection), target


def _folding(where: str, raw: Any, graph: Graph) -> dict[str, Fold]:
    folding = {}
    entries = raw if isinstance(raw, dict) else {}
    for node in circuit_nodes(graph):
        name, entry = node.name, entries.get(node.name)
        if not isinstance(entry, dict) or {*entry, "pixels"} != set(vars(Fold())):
            raise InputError(f"{where}: folding lacks layer {name}; build the directory again")
        if any(type(entry.get(key, 1)) is not int for key in ("pe", "simd", "pixels")):
            raise InputError(f"{where}: folding of layer {name} must hold integers")
        if not all(isinstance(entry[key], str) for key in ("multiplier", "weights")):
            raise InputError(f"{where}: folding of layer {name} must name multiplier and weights")
        folding[name] = Fold(**entry)
    return folding


def _protection(where: str, raw: Any, graph: Graph) -> dict[str, Protection]:
    """What the manifest says of each layer's protection."""
    entries = raw if isinstance(raw, dict) else {}
    found = {}
    for node in circuit_nodes(graph):
        guard = _guard(entries.get(node.name))
        channels = node.out_channels if isinstance(node, Conv2d | Dense) else 0
        if guard is None or max(guard.neurons, default=-1) >= channels:
            raise InputError(
                f"{where}: protection of layer {node.name} is missing or wrong; "
                "build the directory again"
            )
        found[node.name] = guard
    return found


def _guard(entry: Any) -> Protection | None:
    """The protection of a manifest's entry; None unless every key has a value of its kind."""
    if not isinstance(entry, dict) or set(entry) != set(vars(UNPROTECTED)):
        return None
    neurons = entry["neurons"]
    if not isinstance(neurons, list) or any(type(n) is not int or n < 0 for n in neurons):
        return None
    sane = all(entry[key] in values for key, values in CHOICES.items())
    sane = sane and entry["modulus"] in (None, "exact", *MODULI)
    sane = sane and entry["form"] in FORMS and entry["mode"] in MODES
    sane = sane and entry["voters"] in VOTERS and entry["retry"] in range(RETRIES + 1)
    return Protection(**{**entry, "neurons": tuple(neurons)}) if sane else None
