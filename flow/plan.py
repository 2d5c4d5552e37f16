"""The hardening plan: what protects each layer (design, section 4). Its file: `flow.plan_file`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..hw.configure import Protection, circuit_nodes
from ..quant import criticality
from ..quant.bounds import bounded
from ..quant.errors import InputError
from ..quant.ir import Conv2d, Dense, Graph, IntArray
from ..quant.names import printable

__all__ = ["Bound", "Checksum", "Plan", "Settings", "Tmr", "clip", "protect"]

T = TypeVar("T")
NONE = "none"

SCORES = criticality.SCORES
"""Scores of neurons that a share may be chosen by."""


@dataclass(frozen=True)
class Checksum:
    """A checksum over a layer's lanes.

    `modulus` 3, 7, 15, 255 or "exact"; `form` "filter", "input" or "auto": the cheaper one;
    `retry`: how often a group that failed is computed again.
    """

    modulus: int | str = 3
    form: str = "auto"
    retry: int = 0


@dataclass(frozen=True)
class Tmr:
    """Neurons in triple modular redundancy: listed, or a `share` of the MACs chosen by `score`.

    `mode` "spatial": three lanes; "temporal": one lane three times. `voters` is 1, or 3: one for
    each replica.
    """

    neurons: tuple[int, ...] = ()
    share: float | None = None
    score: str = "injection"
    mode: str = "spatial"
    voters: int = 1


@dataclass(frozen=True)
class Bound:
    """Values above what calibration saw become the bound (`kind` "saturate") or zero ("zero").

    One bound `per` "layer" or "neuron".
    """

    kind: str = "zero"
    per: str = "layer"


@dataclass(frozen=True)
class Settings:
    """What a table of the plan states: None is unstated, "none" without protection."""

    checksum: Checksum | str | None = None
    tmr: Tmr | str | None = None
    control: str | None = None
    stream: str | None = None
    post: str | None = None
    weights: str | None = None
    bound: Bound | str | None = None


@dataclass(frozen=True)
class Plan:
    """Settings by default and by layer; a layer's entry comes first.

    The default's `tmr.share` is a share of the MACs of the layers whose table states no `tmr`, a
    layer's one of that layer's. Unstated `control` is "parity" where a checksum is and "none"
    elsewhere: a checksum sees the datapath only, and most upsets that matter strike control.
    `watchdog`: the network's output is guarded by `hw.watchdog`.
    """

    default: Settings = Settings()
    layers: Mapping[str, Settings] = field(default_factory=dict)
    watchdog: bool = False

    def of(self, layer: str, value: Callable[[Settings], T | None]) -> T | None:
        """What the plan states for a layer: `value` of its table or of the default's."""
        own = value(self.layers[layer]) if layer in self.layers else None
        return value(self.default) if own is None else own

    def checksum(self, layer: str) -> Checksum | None:
        """The checksum of a layer."""
        found = self.of(layer, lambda settings: settings.checksum)
        return found if isinstance(found, Checksum) else None

    def control(self, layer: str) -> str:
        """What protects the control registers of a layer."""
        stated = self.of(layer, lambda settings: settings.control)
        if stated is not None:
            return stated
        return NONE if self.checksum(layer) is None else "parity"

    def bound(self, layer: str) -> Bound | None:
        """The bound of a layer's results."""
        found = self.of(layer, lambda settings: settings.bound)
        return found if isinstance(found, Bound) else None

    def to_json(self) -> dict[str, Any]:
        """The plan as it stands in the manifest, in the language of the TOML file."""
        from .plan_file import plan_json

        return plan_json(self)


def clip(plan: Plan, graph: Graph, x: IntArray | None) -> Graph:
    """The graph with the bounds of the plan, taken from the frames `x` [n, *input_shape].

    Raises InputError for a bound without frames or on a layer that has no requantiser.
    """
    nodes = {node.name: node for node in circuit_nodes(graph)}
    _exist(plan, nodes, lambda settings: settings.bound)
    wanted = {
        name: (bound.kind, bound.per)
        for name, node in nodes.items()
        if (bound := plan.bound(name)) is not None
        and (name in plan.layers or getattr(node, "requantize", None) is not None)
    }
    if not wanted:
        return graph
    if x is None or not len(x):
        raise InputError("plan: bound needs inputs to see ranges on; give --calibration")
    return bounded(graph, x, wanted)


def protect(
    plan: Plan, graph: Graph, select_x: IntArray | None, seed: int = 0
) -> dict[str, Protection]:
    """What protects each layer.

    `select_x`: frames to score neurons on, needed for a share only (use other frames to evaluate).
    Raises InputError for a layer or neuron that the graph lacks, or a share without frames.
    """
    circuits = {node.name: node for node in circuit_nodes(graph)}
    layers = {name: node for name, node in circuits.items() if isinstance(node, Conv2d | Dense)}
    for key in ("checksum", "tmr", "weights"):
        _exist(plan, layers, lambda settings, key=key: getattr(settings, key))  # type: ignore[misc]
    _exist(plan, circuits, lambda settings: settings)
    chosen = _neurons(plan, graph, layers, select_x, seed)
    return {
        name: _protection(plan, name, name in layers, chosen.get(name, ())) for name in circuits
    }


def _protection(plan: Plan, name: str, linear: bool, neurons: tuple[int, ...]) -> Protection:
    tmr = plan.of(name, lambda settings: settings.tmr)
    triple = tmr if isinstance(tmr, Tmr) and neurons else Tmr()
    checksum = plan.checksum(name) if linear else None

    def of(key: str) -> str:
        stated = plan.of(name, lambda settings: getattr(settings, key))
        return NONE if stated is None else str(stated)

    return Protection(
        modulus=None if checksum is None else checksum.modulus,
        form="filter" if checksum is None else checksum.form,
        retry=0 if checksum is None else checksum.retry,
        neurons=tuple(sorted(neurons)),
        mode=triple.mode,
        voters=triple.voters,
        control=plan.control(name),
        stream=of("stream"),
        post=of("post"),
        weights=of("weights") if linear else NONE,
    )


def _exist(plan: Plan, known: Iterable[str], value: Callable[[Settings], object]) -> None:
    """InputError for a table that states `value` for a layer which is not among `known`."""
    for name, settings in plan.layers.items():
        if value(settings) is not None and name not in known:
            names = ", ".join(known)
            raise InputError(
                f"plan: no layer {printable(name)!r} to protect so; the graph has {names}"
            )


def _neurons(
    plan: Plan,
    graph: Graph,
    layers: Mapping[str, Conv2d | Dense],
    x: IntArray | None,
    seed: int,
) -> dict[str, tuple[int, ...]]:
    """The neurons in triple modular redundancy, listed or of the highest score."""
    own = {name: settings.tmr for name, settings in plan.layers.items() if settings.tmr is not None}
    tables = {name: tmr for name, tmr in own.items() if isinstance(tmr, Tmr)}
    chosen = {name: _listed(layers[name], tmr.neurons) for name, tmr in tables.items()}
    shares = {name: tmr for name, tmr in tables.items() if tmr.share is not None}
    default = plan.default.tmr if isinstance(plan.default.tmr, Tmr) else None
    if default is None and not shares:
        return chosen
    if x is None or not len(x):
        raise InputError("plan: tmr share needs inputs to score neurons on; give --calibration")
    macs = criticality.macs_per_neuron(graph)
    asked = {tmr.score for tmr in (default, *shares.values()) if tmr is not None}
    worth = {
        score: criticality.risk(criticality.score(graph, x, score, seed=seed), macs)
        for score in sorted(asked)
    }
    if default is not None and default.share is not None:
        rest = {name: risk for name, risk in worth[default.score].items() if name not in own}
        picked = criticality.choose(rest, macs, default.share)
        chosen |= {name: tuple(found) for name, found in picked.items()}
    for name, tmr in shares.items():
        assert tmr.share is not None
        picked = criticality.choose({name: worth[tmr.score][name]}, macs, tmr.share)
        chosen[name] = tuple(picked[name])
    return chosen


def _listed(node: Conv2d | Dense, neurons: tuple[int, ...]) -> tuple[int, ...]:
    for neuron in neurons:
        if not 0 <= neuron < node.out_channels:
            raise InputError(
                f"plan: layer {node.name} has no neuron {neuron}; it has 0..{node.out_channels - 1}"
            )
    return neurons
