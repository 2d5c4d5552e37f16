"""The watchdog in numbers: how long it waits, how many frames it counts. No Amaranth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from .config import LayerConfig, clog2
from .timing import Timing

__all__ = ["WATCHDOG", "WatchdogConfig", "watchdog"]

WATCHDOG = "watchdog"
"""Name of the module, and of the layer that its registers belong to."""


@dataclass(frozen=True)
class WatchdogConfig:
    """`beats` of an output frame; `frames` that the network can hold at most; cycles of patience.

    `limit`: cycles without a beat, though a frame is complete inside and nothing downstream holds
    it back, after which the network has lost its way. `on_error`: a flagged beat empties the
    network as well, since an upset of checked control may have shifted the frames behind it.
    """

    beats: int
    frames: int
    limit: int
    on_error: bool

    @property
    def frame_bits(self) -> int:
        """Bits of the count of frames."""
        return clog2(self.frames + 1)

    @property
    def register_bits(self) -> int:
        """Bits of the registers, each held three times: frames, partial, beat, timer, drain."""
        return self.frame_bits + clog2(self.beats) + clog2(self.limit + 1) + 2


def watchdog(layers: Sequence[LayerConfig], timing: Timing) -> WatchdogConfig:
    """The watchdog of a network: patient for a frame with all its retries and one interval more."""
    last = layers[-1]
    inside = sum(
        ceil(layer.fifo_beats / (layer.groups_per_frame * layer.beats)) + 2 * len(layer.sources)
        for layer in layers
    )
    late = sum(getattr(layer, "retry_cycles", 0) for layer in layers)
    limit = timing.latency_cycles + timing.initiation_interval + late
    return WatchdogConfig(
        beats=last.groups_per_frame * last.beats,
        frames=inside,
        limit=limit,
        on_error=any(layer.checked for layer in layers),
    )
