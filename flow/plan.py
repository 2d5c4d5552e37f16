"""The hardening plan: TOML in, what protects each layer out (design, section 4)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..hw.config import MODULI
from ..hw.configure import Protection, circuit_nodes
from ..quant import criticality
from ..quant.errors import InputError
from ..quant.ir import Conv2d, Dense, Graph, IntArray
from ..quant.names import printable

__all__ = ["Plan", "Tmr", "load_plan", "parse_plan", "protect"]

LATER = ("stream", "post", "weights", "bound")
"""Protections of the plan's language that have no circuit yet: only "none" is taken."""

CONTROLS = ("none", "parity")
SCORES = ("injection",)


@dataclass(frozen=True)
class Tmr:
    """Neurons in triple modular redundancy: listed, or a `share` of the MACs chosen by `score`.

    Without either: none.
    """

    neurons: tuple[int, ...] = ()
    share: float | None = None
    score: str = "injection"


@dataclass(frozen=True)
class Plan:
    """Checksum modulus, control and TMR by default and by layer; a layer's entry comes first.

    The default's `tmr.share` is a share of the MACs of the layers without an entry of their own, a
    layer's one of that layer's.
    `control` None is "parity" where a checksum is and "none" elsewhere: a checksum sees the
    datapath only, and most upsets that matter strike control.
    """

    checksum: int | None = None
    tmr: Tmr | None = None
    control: str | None = None
    layer_checksum: Mapping[str, int | None] = field(default_factory=dict)
    layer_tmr: Mapping[str, Tmr] = field(default_factory=dict)
    layer_control: Mapping[str, str] = field(default_factory=dict)

    def control_of(self, layer: str) -> str:
        """What protects the control registers of a layer."""
        stated = self.layer_control.get(layer, self.control)
        if stated is None:
            return "none" if self.layer_checksum.get(layer, self.checksum) is None else "parity"
        return stated

    def to_json(self) -> dict[str, Any]:
        """The plan as it stands in the manifest, in the language of the TOML file."""
        default = {**_checksum_json(self.checksum), **_tmr_json(self.tmr)}
        if self.control is not None:
            default["control"] = self.control
        names = sorted({*self.layer_checksum, *self.layer_tmr, *self.layer_control})
        layers = {}
        for name in names:
            entry = _tmr_json(self.layer_tmr.get(name))
            if name in self.layer_checksum:
                entry |= _checksum_json(self.layer_checksum[name]) or {"checksum": "none"}
            if name in self.layer_control:
                entry["control"] = self.layer_control[name]
            layers[name] = entry
        return {"default": default, "layer": layers}


def _checksum_json(modulus: int | None) -> dict[str, Any]:
    return {} if modulus is None else {"checksum": {"modulus": modulus}}


def _tmr_json(tmr: Tmr | None) -> dict[str, Any]:
    if tmr is None:
        return {}
    if tmr.share is None:
        return {"tmr": {"neurons": list(tmr.neurons)} if tmr.neurons else "none"}
    return {"tmr": {"share": tmr.share, "score": tmr.score}}


def load_plan(path: Path) -> Plan:
    """Read a plan. Raises InputError naming the file and the key."""
    where = printable(path.name)
    try:
        raw = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{where}: no such plan") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: not a TOML file: {printable(str(error))}") from None
    return parse_plan(raw, where)


def parse_plan(raw: Any, where: str) -> Plan:
    """The plan of a TOML file or a manifest, read as data. Raises InputError naming the key."""
    raw = _table(where, "plan", raw)
    _known(where, raw, ("default", "layer"))
    default = _table(where, "default", raw.get("default", {}))
    layers = _table(where, "layer", raw.get("layer", {}))
    checksum, tmr = _entry(f"{where}: [default]", default)
    layer_checksum, layer_tmr, layer_control = {}, {}, {}
    for name, value in layers.items():
        at = f"{where}: [layer.{printable(name)}]"
        entry = _table(where, f"layer.{printable(name)}", value)
        modulus, neurons = _entry(at, entry)
        if "checksum" in entry:
            layer_checksum[name] = modulus
        if "tmr" in entry:
            layer_tmr[name] = neurons or Tmr()
        if "control" in entry:
            layer_control[name] = entry["control"]
    if tmr is not None and tmr.share is None:
        raise InputError(f"{where}: [default] tmr takes a share; list neurons under [layer.NAME]")
    control = default.get("control")
    return Plan(checksum, tmr, control, layer_checksum, layer_tmr, layer_control)


def _table(where: str, name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where}: {name} must be a table")
    return value


def _known(where: str, table: dict[str, Any], names: tuple[str, ...]) -> None:
    for key in table:
        if key not in names:
            raise InputError(f"{where}: unknown key {printable(key)!r}; known: {', '.join(names)}")


def _entry(where: str, entry: dict[str, Any]) -> tuple[int | None, Tmr | None]:
    _known(where, entry, ("checksum", "tmr", "control", *LATER))
    if entry.get("control", "none") not in CONTROLS:
        raise InputError(f"{where}: control must be one of {CONTROLS} in this version")
    for key in LATER:
        if entry.get(key, "none") != "none":
            raise InputError(f'{where}: {key} has no circuit in this version; write {key} = "none"')
    return _checksum(where, entry.get("checksum", "none")), _tmr(where, entry.get("tmr", "none"))


def _checksum(where: str, value: Any) -> int | None:
    if value == "none":
        return None
    if not isinstance(value, dict):
        raise InputError(f'{where}: checksum must be "none" or {{ modulus = 3 }}')
    _known(f"{where} checksum", value, ("modulus", "form", "retry"))
    modulus = value.get("modulus", 3)
    if type(modulus) is not int or modulus not in MODULI:
        hint = (
            "an even modulus misses flips" if modulus in range(0, 1 << 16, 2) else "no such modulus"
        )
        raise InputError(f"{where}: checksum modulus {modulus!r}: {hint}; choose one of {MODULI}")
    if value.get("form", "auto") not in ("auto", "filter"):
        raise InputError(f'{where}: checksum form must be "auto" or "filter"')
    if value.get("retry", 0) != 0:
        raise InputError(f"{where}: checksum retry has no circuit in this version; write retry = 0")
    return modulus


def _tmr(where: str, value: Any) -> Tmr | None:
    if value == "none":
        return None
    if not isinstance(value, dict):
        raise InputError(f"{where}: tmr must be {{ neurons = [..] }} or {{ share = 0.2 }}")
    _known(f"{where} tmr", value, ("neurons", "share", "score"))
    if ("neurons" in value) == ("share" in value):
        raise InputError(f"{where}: tmr needs either neurons or share")
    if "neurons" in value:
        neurons = value["neurons"]
        if not isinstance(neurons, list) or any(type(n) is not int for n in neurons) or not neurons:
            raise InputError(f"{where}: tmr neurons must be a list of integers")
        return Tmr(tuple(sorted(set(neurons))))
    share, score = value["share"], value.get("score", "injection")
    if type(share) not in (int, float) or not 0 < share <= 1:
        raise InputError(f"{where}: tmr share must lie in 0..1, not {share!r}")
    if score not in SCORES:
        raise InputError(f"{where}: tmr score must be one of {SCORES}, not {printable(str(score))}")
    return Tmr((), float(share), score)


def protect(
    plan: Plan, graph: Graph, select_x: IntArray | None, seed: int = 0
) -> dict[str, Protection]:
    """What protects each layer.

    `select_x`: frames to score neurons on, needed for a share only (use other frames to evaluate).
    Raises InputError for a layer or neuron that the graph lacks, or a share without frames.
    """
    circuits = {node.name: node for node in circuit_nodes(graph)}
    layers = {name: node for name, node in circuits.items() if isinstance(node, Conv2d | Dense)}
    for name in plan.layer_control:
        if name not in circuits:
            raise InputError(
                f"plan: no layer {printable(name)!r}; the graph has {', '.join(circuits)}"
            )
    for name in (*plan.layer_checksum, *plan.layer_tmr):
        if name not in layers:
            raise InputError(
                f"plan: no layer {printable(name)!r} to protect; the graph has {', '.join(layers)}"
            )
    chosen = {name: _listed(layers[name], tmr.neurons) for name, tmr in plan.layer_tmr.items()}
    if plan.tmr or any(tmr.share is not None for tmr in plan.layer_tmr.values()):
        if select_x is None or not len(select_x):
            raise InputError("plan: tmr share needs inputs to score neurons on; give --calibration")
        chosen |= _scored(plan, graph, select_x, seed)
    found = {}
    for name in circuits:
        modulus = plan.layer_checksum.get(name, plan.checksum) if name in layers else None
        neurons = tuple(sorted(chosen.get(name, ())))
        found[name] = Protection(modulus, neurons, plan.control_of(name))
    return found


def _listed(node: Conv2d | Dense, neurons: tuple[int, ...]) -> tuple[int, ...]:
    for neuron in neurons:
        if not 0 <= neuron < node.out_channels:
            raise InputError(
                f"plan: layer {node.name} has no neuron {neuron}; it has 0..{node.out_channels - 1}"
            )
    return neurons


def _scored(plan: Plan, graph: Graph, x: IntArray, seed: int) -> dict[str, tuple[int, ...]]:
    """The neurons of the highest measured sensitivity a MAC, within each share."""
    scores = criticality.neuron_scores(graph, x, seed=seed)
    macs = criticality.macs_per_neuron(graph)
    chosen: dict[str, tuple[int, ...]] = {}
    if plan.tmr is not None and plan.tmr.share is not None:
        rest = {name: score for name, score in scores.items() if name not in plan.layer_tmr}
        picked = criticality.choose(rest, {name: macs[name] for name in rest}, plan.tmr.share)
        chosen |= {name: tuple(found) for name, found in picked.items()}
    for name, tmr in plan.layer_tmr.items():
        if tmr.share is not None:
            picked = criticality.choose({name: scores[name]}, {name: macs[name]}, tmr.share)
            chosen[name] = tuple(picked[name])
    return chosen
