"""The table of a graph's sensitivities, in memory and as JSON."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError

__all__ = ["LANES", "LayerSensitivity", "Sensitivity"]

LANES = (1, 4, 16, 64)
"""Lanes that take one wrong element of a window at once, for which it is measured."""


@dataclass(frozen=True, eq=False)
class LayerSensitivity:
    """P(the top-1 changes) by bit, lowest first, of one flip in each kind of word of a layer.

    `curves` of Conv2d and Dense: `product`; `partial`, a running sum; `acc`, a complete one;
    `weight`, in one product; `act1`.. `act64`, an element that as many lanes multiply in one step;
    `total`, the sum scaled and rounded but not yet clamped; `multiplier`, of one rescaling (tables
    of several only); `result`. Pools and Add: `act`, `partial`, `total`, `result`. ArgMax: `best`
    and `index`. Every node: `operand0`, .. an element as its operand is delivered, for all that
    this node makes of it. `neurons`: the same flips by neuron, relative to their mean (empty
    without weights). `blind`: share of the operand's values other than 0 that each modulus divides.
    """

    name: str
    curves: Mapping[str, tuple[float, ...]]
    neurons: tuple[float, ...] = ()
    blind: Mapping[int, float] | None = None

    def mean(self, curve: str, first: int = 0, bits: int | None = None) -> float:
        """Mean over `bits` bits from `first` on; bits below 0 do nothing, those beyond the curve
        are as its last one."""
        values = self.curves[curve]
        if bits is None:
            bits = len(values)
        if not bits or not values:
            return 0.0
        found = sum(values[max(0, first) : max(0, first + bits)])
        beyond = first + bits - max(first, len(values))
        return (found + max(0, beyond) * values[-1]) / bits

    def act(self, lanes: int) -> float:
        """Mean over bits of an element that `lanes` lanes take, between the measured numbers."""
        known = [n for n in LANES if f"act{n}" in self.curves]
        above = bisect.bisect_left(known, lanes)
        if above == len(known):
            return self.mean(f"act{known[-1]}")
        if known[above] == lanes or not above:
            return self.mean(f"act{known[above]}")
        low, high = known[above - 1], known[above]
        part = math.log(lanes / low) / math.log(high / low)
        return (1 - part) * self.mean(f"act{low}") + part * self.mean(f"act{high}")


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """A graph's layers by name, and what they were measured on.

    `graph` is the digest of the graph (`serialize.digest`), `images` and `trials` (flips of each
    kind of word) the effort, `seed` that of the flips.
    """

    graph: str
    images: int
    trials: int
    seed: int
    layers: Mapping[str, LayerSensitivity]

    def to_json(self) -> dict[str, Any]:
        """All fields; `from_json` gives an equal table back."""
        layers = {
            name: {
                "curves": {key: list(values) for key, values in one.curves.items()},
                "neurons": list(one.neurons),
                "blind": {str(m): share for m, share in (one.blind or {}).items()},
            }
            for name, one in self.layers.items()
        }
        head = {"graph": self.graph, "images": self.images, "trials": self.trials}
        return head | {"seed": self.seed, "layers": layers}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Sensitivity:
        """Raises InputError for what `to_json` did not write."""
        try:
            layers = {
                str(name): LayerSensitivity(
                    str(name),
                    {str(key): _shares(values) for key, values in one["curves"].items()},
                    tuple(float(value) for value in one["neurons"]),
                    {int(m): float(share) for m, share in one["blind"].items()},
                )
                for name, one in data["layers"].items()
            }
            images, trials, seed = (int(data[key]) for key in ("images", "trials", "seed"))
            return cls(str(data["graph"]), images, trials, seed, layers)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InputError("sensitivity: not a table of this version; measure again") from None


def _shares(values: Sequence[float]) -> tuple[float, ...]:
    found = tuple(float(value) for value in values)
    if any(not 0 <= value <= 1 for value in found):
        raise ValueError
    return found
