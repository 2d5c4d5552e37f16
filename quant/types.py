"""Types of tensors and the two ways from an accumulator back to few bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "MAX_ACT_BITS",
    "MAX_M_BITS",
    "MAX_SHIFT",
    "MIN_M_BITS",
    "IntArray",
    "Requantize",
    "TensorType",
    "Thresholds",
    "integers",
]

IntArray = np.ndarray[Any, np.dtype[np.int64]]

MAX_ACT_BITS = 8
MIN_M_BITS, MAX_M_BITS = 8, 31
MAX_SHIFT = 62


def integers(values: Any, what: str) -> IntArray:
    """A read-only int64 copy of `values`; ValueError unless every value is an integer."""
    array = np.asarray(values)
    if array.dtype.kind not in "iu" and array.size:
        raise ValueError(f"{what} must hold integers, not {array.dtype}")
    if array.dtype == np.uint64 and array.size and array.max() >= 1 << 63:
        raise ValueError(f"{what} must fit 64 bits")
    array = np.array(array, dtype=np.int64, order="C")
    array.setflags(write=False)
    return array


@dataclass(frozen=True)
class TensorType:
    """Integer type of an activation: 1..8 bits, or bipolar {-1, +1} stored as one bit.

    `scale` is the real step, real = scale * (q - zero_point); it changes no integer result and is
    None where the importer knew none. Accumulators (logits) may be wider than 8 bits.
    """

    bits: int
    signed: bool
    zero_point: int = 0
    bipolar: bool = False
    scale: float | None = None

    def __post_init__(self) -> None:
        if type(self.bits) is not int or not 1 <= self.bits <= 62:
            raise ValueError(f"bits must be 1..62, not {self.bits}")
        if self.bipolar and (self.bits != 1 or not self.signed or self.zero_point):
            raise ValueError("a bipolar type is signed, has 1 bit and zero point 0")
        if self.signed and self.bits == 1 and not self.bipolar:
            raise ValueError("a signed type needs 2 bits or more (bipolar is its own type)")
        if not self.bipolar and not self.lo <= self.zero_point <= self.hi:
            raise ValueError(f"zero_point {self.zero_point} lies outside {self.lo}..{self.hi}")

    @property
    def lo(self) -> int:
        """Smallest value."""
        if self.bipolar:
            return -1
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def hi(self) -> int:
        """Largest value."""
        if self.bipolar:
            return 1
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1


@dataclass(frozen=True, eq=False)
class Requantize:
    """q = clamp(((acc * m + 2^(s-1)) >> s) + zp, lo, hi), then the bound; s = 0 adds nothing.

    Parameters: `multiplier`, `shift` of shape (1,) or (channels,); `out` the result's type;
    `lo`, `hi` the clamp (None: the type's limits; ReLU is lo = zero point); `bound` of shape (1,)
    or (channels,): values above it become the bound (`saturate`) or the zero point (`zero`).
    """

    multiplier: IntArray
    shift: IntArray
    out: TensorType
    m_bits: int = 16
    lo: int | None = None
    hi: int | None = None
    bound: IntArray | None = None
    bound_kind: str = "saturate"

    def __post_init__(self) -> None:
        object.__setattr__(self, "multiplier", integers(self.multiplier, "multiplier"))
        object.__setattr__(self, "shift", integers(self.shift, "shift"))
        if not MIN_M_BITS <= self.m_bits <= MAX_M_BITS:
            raise ValueError(f"m_bits must be {MIN_M_BITS}..{MAX_M_BITS}, not {self.m_bits}")
        if self.multiplier.ndim != 1 or self.shift.shape != self.multiplier.shape:
            raise ValueError("multiplier and shift must be vectors of one length")
        if not self.multiplier.size:
            raise ValueError("multiplier must not be empty")
        if self.multiplier.min() < 0 or self.multiplier.max() >= 1 << self.m_bits:
            raise ValueError(f"multiplier must lie in 0..2^{self.m_bits}-1")
        if self.shift.min() < 0 or self.shift.max() > MAX_SHIFT:
            raise ValueError(f"shift must lie in 0..{MAX_SHIFT}")
        if self.out.bipolar or self.out.bits > MAX_ACT_BITS:
            raise ValueError("requantize makes 1..8 bit types; bipolar ones come from thresholds")
        lo = self.out.lo if self.lo is None else self.lo
        hi = self.out.hi if self.hi is None else self.hi
        if not self.out.lo <= lo <= hi <= self.out.hi:
            raise ValueError(f"clamp {lo}..{hi} is outside the type's {self.out.lo}..{self.out.hi}")
        object.__setattr__(self, "lo", lo)
        object.__setattr__(self, "hi", hi)
        if self.bound_kind not in ("saturate", "zero"):
            raise ValueError(f"bound_kind must be saturate or zero, not {self.bound_kind!r}")
        if self.bound is not None:
            object.__setattr__(self, "bound", integers(self.bound, "bound"))
            if self.bound.ndim != 1 or not self.bound.size:
                raise ValueError("bound must be a vector")
            if self.bound.min() < lo or self.bound.max() > hi:
                raise ValueError(f"bound must lie in the clamp {lo}..{hi}")

    @property
    def limits(self) -> tuple[int, int]:
        """The clamp (lo, hi), never None."""
        assert self.lo is not None
        assert self.hi is not None
        return self.lo, self.hi


@dataclass(frozen=True, eq=False)
class Thresholds:
    """Multi-threshold requantisation: q = out.lo + #{t : acc >= t}; bipolar: acc >= t ? +1 : -1.

    `values` has shape (1 or channels, steps), rows ascending; steps = 2^bits - 1 (1 for bipolar).
    """

    values: IntArray
    out: TensorType

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", integers(self.values, "thresholds"))
        steps = (1 << self.out.bits) - 1
        if self.out.bits > 4:
            raise ValueError(f"thresholds make 1..4 bit types, not {self.out.bits} bits")
        if self.values.ndim != 2 or self.values.shape[1] != steps or not self.values.size:
            raise ValueError(f"thresholds must have shape (channels, {steps})")
        if (self.values[:, 1:] < self.values[:, :-1]).any():
            raise ValueError("thresholds must ascend")
