"""One point of a search space: a network and the circuit that it becomes. Needs no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["FAMILIES", "HEADS", "Candidate", "NetworkSpec", "StageSpec"]

FAMILIES = ("chain", "residual")
HEADS = ("flatten", "mean")


@dataclass(frozen=True)
class StageSpec:
    """`blocks` blocks of `width` output channels and `kernel` x `kernel` windows, then a 2x2 pool.

    A block is one convolution in a chain; in a residual network two, with a skip around them.
    """

    blocks: int
    width: int
    kernel: int


@dataclass(frozen=True)
class NetworkSpec:
    """A network before it is trained: its shape and how it is quantised.

    `family` of `FAMILIES`; `head` of `HEADS`: the dense layer reads all elements, or the mean of
    the image. `weight_bits`, `act_bits` and `scheme` as in `quant.QuantConfig`. `input_shape` is
    (channels, height, width).
    """

    family: str
    stages: tuple[StageSpec, ...]
    head: str
    weight_bits: int
    act_bits: int
    scheme: str
    input_shape: tuple[int, int, int]
    classes: int

    def to_json(self) -> dict[str, Any]:
        """All fields by name."""
        return asdict(self)

    @property
    def digest(self) -> str:
        """SHA-256 of all fields, in hexadecimal: equal for equal networks."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Candidate:
    """A network, the `interval` in cycles a frame that its layers must meet, the `multiplier` of
    its circuits ("dsp" or "lut") and the name of its hardening plan."""

    network: NetworkSpec
    interval: int
    multiplier: str
    plan_name: str
