"""The options of quantisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .calibrate import METHODS
from .errors import InputError
from .ir import MAX_M_BITS, MIN_M_BITS
from .names import printable

__all__ = ["QuantConfig"]

SCHEMES = ("scale", "pow2")
LAYER_KEYS = ("weight_bits", "act_bits")


@dataclass(frozen=True, kw_only=True)
class QuantConfig:
    """How to quantise.

    `weight_bits`, `act_bits`: 2..8. `scheme`: `scale` (multiplier and shift) or `pow2` (scales are
    powers of two, a shift alone). `per_channel`: one weight scale per output channel. `ranges`:
    `minmax`, `percentile` (of `percentile` %) or `mse`. `asymmetric`: zero points where values are
    negative. `m_bits`: width of the multiplier, 8..31. `layers`: layer or input name (or module
    path) -> {weight_bits, act_bits}. Raises InputError, naming the option.
    """

    weight_bits: int = 8
    act_bits: int = 8
    scheme: str = "scale"
    per_channel: bool = True
    ranges: str = "minmax"
    percentile: float = 99.99
    asymmetric: bool = False
    m_bits: int = 16
    layers: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_bits("weight_bits", self.weight_bits)
        _check_bits("act_bits", self.act_bits)
        if self.scheme not in SCHEMES:
            raise InputError(f"scheme must be {' or '.join(SCHEMES)}, not {self.scheme!r}")
        if self.ranges not in METHODS:
            raise InputError(f"ranges must be one of {', '.join(METHODS)}, not {self.ranges!r}")
        if not 50.0 < self.percentile <= 100.0:
            raise InputError(f"percentile must lie in 50..100, not {self.percentile}")
        if type(self.m_bits) is not int or not MIN_M_BITS <= self.m_bits <= MAX_M_BITS:
            raise InputError(f"m_bits must be {MIN_M_BITS}..{MAX_M_BITS}, not {self.m_bits}")
        for layer, options in self.layers.items():
            for key, bits in options.items():
                if key not in LAYER_KEYS:
                    raise InputError(
                        f"layer {printable(layer)}: unknown option {printable(str(key))}; "
                        f"known: {', '.join(LAYER_KEYS)}"
                    )
                _check_bits(f"layer {printable(layer)}: {key}", bits)

    @property
    def pow2(self) -> bool:
        """Whether scales are powers of two."""
        return self.scheme == "pow2"


def _check_bits(what: str, bits: Any) -> None:
    if type(bits) is not int or not 2 <= bits <= 8:
        raise InputError(f"{what} must be 2..8, not {bits}")
