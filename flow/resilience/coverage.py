"""What share of the wrong classes of each register the plan detects, corrects or votes away."""

from __future__ import annotations

from collections.abc import Mapping

from ...hw.config import INPUT, LayerConfig, WindowedConfig
from ...hw.fold import UNPROTECTED, Protection
from ...quant.sensitivity import LayerSensitivity
from . import control
from .exposure import Exposure

__all__ = ["Guards", "covered"]

CODED = ("parity", "residue", "secded")


class Guards:
    """Protection of a layer and of the layers whose words it reads; the network's input has the
    code of its first `reader`. `watchdog`: the network's output is guarded by one."""

    def __init__(
        self,
        layer: LayerConfig,
        protection: Mapping[str, Protection],
        reader: str,
        *,
        watchdog: bool,
    ) -> None:
        self.own, self.watchdog = protection.get(layer.name, UNPROTECTED), watchdog
        self.sources = tuple(
            protection.get(reader if source == INPUT else source, UNPROTECTED)
            for source in layer.sources
        )


def covered(layer: LayerConfig, one: Exposure, guards: Guards, table: LayerSensitivity) -> float:
    """Share, 0..1, of the wrong classes of these registers that do not get away unseen."""
    own = guards.own
    match one.role:
        case "product":
            return float(own.modulus is not None)
        case "accumulator":
            if isinstance(layer, WindowedConfig) and layer.op not in ("Conv2d", "Dense"):
                return float(own.post != "none")
            behind = one.name == "drain" and own.post != "none"
            return float(own.modulus is not None or behind)
        case "weight":
            return max(_checked_weights(own, table), float(own.weights != "none"))
        case "activation" | "fifo":
            return float(guards.sources[one.port or 0].stream in CODED)
        case "requant":
            return float(own.post != "none")
        case "control":
            return _controlled(one, own.control, guards.watchdog)
    return 0.0


def _controlled(one: Exposure, mode: str, watchdog: bool) -> float:
    """What parity and the watchdog see of control, as measured; voted control errs no more."""
    if mode == "tmr":
        return 1.0
    mode += ", watchdog" * watchdog
    if mode == "none" or not one.probability:
        return 0.0
    return max(0.0, 1.0 - control.rate(one.kind, one.name, mode) / one.probability)


def _checked_weights(own: Protection, table: LayerSensitivity) -> float:
    """A modulus that divides the activation does not see its weight's flip."""
    if own.modulus is None:
        return 0.0
    blind = (table.blind or {}).get(own.modulus, 0.0) if isinstance(own.modulus, int) else 0.0
    return 1.0 - blind
