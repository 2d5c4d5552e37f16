"""Why a design is as fast and as large as it is: cycles, utilisation and resources by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..hw.config import LayerConfig, WindowedConfig
from ..hw.join_config import JoinConfig
from ..hw.linear_config import LinearConfig
from ..hw.reduce_config import PoolConfig
from .design import Design
from .folding import Goal
from .folding.solve import RESOURCES
from .targets import Target

__all__ = ["explanation", "rate"]


def rate(interval: int, goal: Goal, target: Target) -> dict[str, Any]:
    """{clock_mhz, fps, goal} of a design with an initiation interval; frames a second in theory."""
    clock = goal.clock(target)
    asked = {"fps": goal.fps, "fit": goal.fit, "interval": goal.interval(target)}
    return {
        "clock_mhz": clock,
        "fps": round(clock * 1e6 / interval, 3),
        "goal": {key: value for key, value in asked.items() if value is not None},
    }


def explanation(design: Design, cost: Mapping[str, Any], target: Target) -> dict[str, Any]:
    """{explain: [a layer each], bottleneck, device: {resource: {used, have, share}}}.

    `cost` is the design's COST. `utilisation` of a layer is its multiply-accumulates by what its
    multipliers could do in the design's initiation interval; `skip_words` are those of the FIFOs in
    front of a join, one for each operand.
    """
    interval = cost["initiation_interval"]
    parts = {part["name"]: part for part in cost["layers"]}
    slowest = max(design.layers, key=lambda layer: layer.cycles_per_frame)
    return {
        "explain": [_layer(design, layer, parts[layer.name], interval) for layer in design.layers],
        "bottleneck": slowest.name,
        "device": {key: _share(cost[key], target.capacity[key]) for key in RESOURCES},
    }


def _share(used: float | None, have: int) -> dict[str, float | None]:
    share = None if used is None or not have else round(used / have, 4)
    return {"used": used, "have": have, "share": share}


def _layer(
    design: Design, layer: LayerConfig, cost: Mapping[str, Any], interval: int
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "layer": layer.name,
        "op": layer.op,
        **vars(design.folding[layer.name]),
    }
    if isinstance(layer, LinearConfig):
        found |= _arithmetic(layer, interval)
    else:
        simd = layer.simd if isinstance(layer, PoolConfig) else None
        found |= {"simd": simd, "multiplier": None, "weights": None}
        found |= {"multipliers": None, "utilisation": None}
    window = layer.window if isinstance(layer, WindowedConfig) else None
    return {
        **found,
        "cycles_per_frame": layer.cycles_per_frame,
        **{key: cost[key] for key in RESOURCES},
        "windows": window.windows if window else None,
        "passes": len(window.passes) if window else None,
        "steps": layer.steps,
        "out_lanes": layer.out_lanes,
        "buffer_words": (0 if layer.direct else window.depth) if window else None,
        "buffer_copies": (0 if layer.direct else window.ports) if window else None,
        "skip_words": [o.depth for o in layer.operands] if isinstance(layer, JoinConfig) else [],
        "fifo_beats": layer.fifo_beats,
    }


def _arithmetic(layer: LinearConfig, interval: int) -> dict[str, Any]:
    multipliers = layer.pe * layer.simd
    place = "block" if layer.block_weights else "logic"
    return {
        "weights": "constant" if layer.constant_weights else place,
        "multipliers": multipliers,
        "utilisation": round(layer.macs / (multipliers * interval), 4),
    }
