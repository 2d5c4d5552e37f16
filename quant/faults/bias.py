"""Laws of wrong results: a power of two is added to elements of a convolution's output.

MiBB and its permanent form after Ning et al., "FTT-NAS: Discovering Fault-Tolerant Convolutional
Neural Architecture" (TODAES 2021, arXiv 2003.10375) and the parameters of its released code; iBB is
the simpler law that it compares with. docs/tensor_faults.md says where this differs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import InputError
from ..ir import Conv2d, IntArray, Thresholds
from .laws import Columns, Law, Target, hits
from .records import Op, Tensor

__all__ = ["BitBias", "Mibb", "PermanentPe"]


def _bias(target: Target, found: IntArray, amount: IntArray) -> Columns:
    """`amount` added to elements: before the activation, or to the result where no such word is.

    The one bit of a bipolar result can only be inverted.
    """
    node = target.linear
    plain = isinstance(node.requantize, Thresholds)
    tensor = Tensor.ACTIVATION if plain else Tensor.PREACTIVATION
    flip = target.kind.bipolar
    return {
        "experiment": found // target.elements,
        "index": found % target.elements,
        "tensor": int(tensor),
        "op": int(Op.FLIP if flip else Op.ADD),
        "value": np.ones_like(amount) if flip else amount,
    }


@dataclass(frozen=True)
class Mibb(Law):
    """Each of m MACs errs with probability `rate`; an element with an error gets +-2^k.

    p = 1 - (1 - rate)^m, k uniform over the bits of the result's type, the sign uniform.
    """

    rate: float
    everywhere: ClassVar[bool] = False

    def probability(self, target: Target) -> float:
        """That an element is hit."""
        return -math.expm1(target.macs * math.log1p(-self.rate)) if self.rate < 1 else 1.0

    def draw(self, target: Target, rng: np.random.Generator, count: int) -> Columns:
        """The faults of `count` inferences."""
        found = hits(rng, count * target.elements, self.probability(target))
        return _bias(target, found, _power(rng, target.kind.bits, len(found)))


def _power(rng: np.random.Generator, bits: int, count: int) -> IntArray:
    """+-2^k, k uniform over 0..bits-1."""
    k = rng.integers(0, bits, count)
    sign = 1 - 2 * rng.integers(0, 2, count)
    return np.asarray(sign << k, dtype=np.int64)


@dataclass(frozen=True)
class BitBias(Mibb):
    """iBB: as MiBB, with the probability rate x m of small rates (at most 1)."""

    everywhere: ClassVar[bool] = True

    def probability(self, target: Target) -> float:
        """That an element is hit."""
        return min(1.0, self.rate * target.macs)


@dataclass(frozen=True)
class PermanentPe(Law):
    """A faulty processing element errs in each of its n MACs: the bias grows with n.

    `rate` p0 of a multiplier, `parallel` input channels an element sums at once. Dense:
    p = 1 - (1 - p0)^parallel, n = ceil(channels / parallel) kh kw; depthwise: p = p0, n = kh kw.
    With Q bits of the result and a = min(Q - 1, floor(log2 n)) an element is hit with probability
    min(1, p (Q + a) / Q) and gets floor(n (+-2^k)), k uniform over -a..Q-1. `input_rate`: only a
    binomial number of the n errors shows. `tile` (h, w, c): which elements are hit is drawn for a
    tile and repeated over the map, as one element serves many positions.
    """

    rate: float
    parallel: int = 1
    input_rate: float | None = None
    tile: tuple[int, int, int] | None = None
    everywhere: ClassVar[bool] = False

    def contributions(self, target: Target) -> tuple[float, int, int]:
        """p, n and a of a layer."""
        node = target.linear
        kernel, each = math.prod(node.weight.shape[1:-1]), node.weight.shape[-1]
        depthwise = isinstance(node, Conv2d) and node.groups > 1 and each == 1
        if self.parallel < 1:
            raise InputError("fault law: parallel must be at least 1")
        macs = kernel if depthwise else math.ceil(each / self.parallel) * kernel
        p = self.rate if depthwise else 1 - (1 - self.rate) ** self.parallel
        return p, macs, min(target.kind.bits - 1, macs.bit_length() - 1)

    def probability(self, target: Target) -> float:
        """That an element is hit."""
        p, _, more = self.contributions(target)
        bits = target.kind.bits
        return min(1.0, p * (bits + more) / bits)

    def draw(self, target: Target, rng: np.random.Generator, count: int) -> Columns:
        """The faults of `count` inferences."""
        _, macs, more = self.contributions(target)
        found = self._hits(target, rng, count)
        bit = rng.integers(-more, target.kind.bits, len(found))
        number = np.full(len(found), macs)
        if self.input_rate is not None:
            number = rng.binomial(macs, self.input_rate, len(found))
        signed = number * (1 - 2 * rng.integers(0, 2, len(found)))
        amount = (signed << np.maximum(bit, 0)) >> np.maximum(-bit, 0)
        return _bias(target, found, amount)

    def _hits(self, target: Target, rng: np.random.Generator, count: int) -> IntArray:
        rate = self.probability(target)
        if self.tile is None:
            return hits(rng, count * target.elements, rate)
        shape = (1, 1, 1, *target.shape)[-3:]
        size, found = math.prod(self.tile), []
        for start in range(count):
            mask = np.zeros(size, bool)
            mask[hits(rng, size, rate)] = True
            again = [-(-n // t) for n, t in zip(shape, self.tile, strict=True)]
            whole = np.tile(mask.reshape(self.tile), again)
            inside = np.flatnonzero(whole[tuple(slice(n) for n in shape)])
            found.append(inside + start * target.elements)
        return np.concatenate(found)
