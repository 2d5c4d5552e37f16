"""What a checksum unit looks like, in numbers. No Amaranth."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from ..quant.ir import IntArray
from .window_config import clog2

if TYPE_CHECKING:
    from .linear_config import LinearConfig

__all__ = ["FilterCheck", "InputCheck", "least_ranks", "number_bits"]

ADDS = {3: 16}
"""Terms that one rank adds modulo 3, where a sum of two is one table of four inputs."""

OTHER_ADDS = 4
"""Terms that one rank adds with carries."""

PRODUCTS = {3: 4}
"""Products that share a register modulo 3."""

DIGITS = 20
"""Digits modulo 3 of drained words that one register sums."""


def number_bits(modulus: int | str | None, exact: int) -> int:
    """Bits of a residue; `exact` bits of an exact sum."""
    return modulus.bit_length() if isinstance(modulus, int) else exact


def _reduces(modulus: int | str | None) -> bool:
    """Whether elements are reduced in a rank of their own: modulo 3 their products are too."""
    return isinstance(modulus, int) and modulus != 3


def _sums(modulus: int | str | None, elements: int, adds: int) -> tuple[int, ...]:
    """Registers in each rank of sums between the products and the accumulator."""
    terms, found = ceil(elements / PRODUCTS.get(modulus, 1)), []  # type: ignore[arg-type]
    while terms > adds:
        terms = ceil(terms / adds)
        found.append(terms)
    return tuple(found)


def least_ranks(modulus: int | str | None, elements: int) -> int:
    """Registers from the elements to the accumulator of the filter form, if nothing hurries."""
    adds = ADDS.get(modulus, OTHER_ADDS)  # type: ignore[arg-type]
    return _reduces(modulus) + 1 + len(_sums(modulus, elements, adds))


@dataclass(frozen=True, eq=False)
class FilterCheck:
    """Filter form: a row of weight sums beside the lanes, compared group by group.

    Everything is negated, so that what is predicted and what leaves add up to 0.
    """

    layer: LinearConfig

    @property
    def modulus(self) -> int | None:
        """The modulus, None where sums are exact."""
        return self.layer.modulus if isinstance(self.layer.modulus, int) else None

    @functools.cached_property
    def rows(self) -> IntArray:
        """Words of the row memory, (turns * steps, used elements): minus the sums of weights."""
        layer = self.layer
        _, _, steps, _ = layer.weight.shape
        passes = -layer.checksum_rows.reshape(-1, steps, layer.elements)
        rows = passes[list(layer.turn_passes)].reshape(-1, layer.elements)
        used: IntArray = rows[:, list(self.used)]
        return used % self.modulus if self.modulus else used

    @functools.cached_property
    def used(self) -> tuple[int, ...]:
        """Elements that any word weighs with another number than 0."""
        rows = self.layer.checksum_rows
        rows = rows % self.modulus if self.modulus else rows
        return tuple(np.flatnonzero(rows.any(axis=0)).tolist())

    @functools.cached_property
    def biases(self) -> tuple[int, ...]:
        """Minus the sum of the biases of each turn."""
        found = -self.layer.bias.sum(axis=1)[list(self.layer.turn_passes)]
        return tuple((found % self.modulus if self.modulus else found).tolist())

    @property
    def biased(self) -> bool:
        """Whether turns have different biases: they lie beside the rows."""
        return len(set(self.biases)) > 1

    @property
    def words(self) -> int:
        """Words of the row memory."""
        return len(self.rows)

    @functools.cached_property
    def weight_bits(self) -> int:
        """Bits of a weight of the row: a residue, or signed."""
        return number_bits(self.layer.modulus, _signed_bits(self.rows))

    @functools.cached_property
    def bias_bits(self) -> int:
        """Bits of a bias: a residue, or signed."""
        return number_bits(self.layer.modulus, _signed_bits(np.array(self.biases)))

    @property
    def row_bits(self) -> int:
        """Bits of a word of the row memory, the bias at the top."""
        return self.weight_bits * len(self.used) + self.biased * self.bias_bits

    @property
    def sum_bits(self) -> int:
        """Bits of a sum: a residue, or exact for all lanes together."""
        layer = self.layer
        return number_bits(layer.modulus, layer.acc_bits + (layer.pe - 1).bit_length())

    @property
    def product_bits(self) -> int:
        """Bits of a product: a residue, or signed."""
        layer = self.layer
        exact = self.weight_bits + layer.act_bits + 1
        return number_bits(layer.modulus, min(exact, self.sum_bits))

    @property
    def products(self) -> int:
        """Products whose sum a register takes."""
        return PRODUCTS.get(self.layer.modulus, 1)  # type: ignore[arg-type]

    @property
    def reduces(self) -> bool:
        """Whether residues of the elements are held before they are multiplied."""
        return _reduces(self.layer.modulus)

    @functools.cached_property
    def adds(self) -> int:
        """Terms of a sum in each rank: more where the lanes have few ranks."""
        modulus, layer = self.layer.modulus, self.layer
        adds = ADDS.get(modulus, OTHER_ADDS)  # type: ignore[arg-type]
        most = layer.lane_cycles + layer.drain_cycles - 2 - self.reduces - 1
        while len(_sums(modulus, len(self.used), adds)) > most:
            adds += 1
        return adds

    @property
    def terms(self) -> int:
        """Registers of products."""
        return ceil(len(self.used) / self.products)

    @property
    def sums(self) -> tuple[int, ...]:
        """Registers in each rank of sums."""
        return _sums(self.layer.modulus, len(self.used), self.adds)

    @property
    def ranks(self) -> int:
        """Registers from the elements to the accumulator."""
        return self.reduces + 1 + len(self.sums)

    @property
    def held(self) -> int:
        """Cycles that the predicted sum waits for the group's first word to leave the lanes.

        In the cycle after the last step's the next group may begin.
        """
        layer = self.layer
        return layer.lane_cycles + layer.drain_cycles - 2 - self.ranks

    @property
    def marked(self) -> bool:
        """Whether a group has steps that are not its first."""
        return self.layer.steps > 1

    @property
    def lanes_per_part(self) -> int:
        """Words that leave side by side and whose sum one register takes."""
        if self.modulus == 3:
            return max(1, 2 * DIGITS // self.layer.acc_bits)
        return 1 if self.modulus else OTHER_ADDS

    @property
    def parts(self) -> int:
        """Registers of the words that leave side by side."""
        return ceil(self.layer.out_lanes / self.lanes_per_part)

    @property
    def part_bits(self) -> int:
        """Bits of such a register."""
        layer = self.layer
        lanes = min(self.lanes_per_part, layer.out_lanes)
        return number_bits(layer.modulus, layer.acc_bits + (lanes - 1).bit_length())


def _signed_bits(values: IntArray) -> int:
    """Bits of two's complement that hold all values."""
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    return max(high.bit_length(), (~low).bit_length()) + 1


@dataclass(frozen=True, eq=False)
class InputCheck:
    """Input form: sums of the elements over the windows of a frame, checked at its end.

    S[k] = sum over windows of x[k]; for each channel n the drained words must add up to
    sum_k w[n, k] S[k] + windows * b[n]. What was read and what drained is summed as it passes, in
    memories of two banks; while the next frame is summed, `parallel` multipliers walk through the
    weights, channel by channel. Weights and biases are negated: a channel adds up to 0.
    """

    layer: LinearConfig

    LATENCY = 4
    """Cycles from a check's last multiplication to its verdict."""

    @property
    def modulus(self) -> int | None:
        """The modulus, None where sums are exact."""
        return self.layer.modulus if isinstance(self.layer.modulus, int) else None

    @functools.cached_property
    def places(self) -> tuple[int | None, ...]:
        """Where each step of a window is summed, None where an earlier pass has read the same."""
        seen: dict[int, int] = {}
        found: list[int | None] = []
        for base in self.layer.window.passes:
            known = base in seen
            at = seen.setdefault(base, len(seen)) * self.layer.steps
            found += [None if known else at + step for step in range(self.layer.steps)]
        return tuple(found)

    @functools.cached_property
    def sources(self) -> tuple[int, ...]:
        """Where the sums of each pass (a row of `weight`) begin."""
        layer = self.layer
        seen = list(dict.fromkeys(layer.window.passes))
        first = [layer.turn_passes.index(p) for p in range(layer.weight.shape[0])]
        return tuple(seen.index(layer.window.passes[turn]) * layer.steps for turn in first)

    @property
    def words(self) -> int:
        """Words of element sums in a bank."""
        return 1 + max(place for place in self.places if place is not None)

    @property
    def results(self) -> int:
        """Words of result sums in a bank: the beats that leave for one window."""
        return int(self.layer.weight.shape[0]) * self.layer.beats

    @property
    def element_bits(self) -> int:
        """Bits of the sum of an element: a residue, or signed."""
        layer = self.layer
        exact = layer.act_bits + 1 + layer.window.windows.bit_length()
        return number_bits(layer.modulus, min(exact, self.result_bits))

    @property
    def result_bits(self) -> int:
        """Bits of the sum of a channel: a residue, or exact over all windows."""
        layer = self.layer
        return number_bits(layer.modulus, layer.acc_bits + (layer.window.windows - 1).bit_length())

    @functools.cached_property
    def weights(self) -> IntArray:
        """Minus the weights, (channels * steps * parts, parallel), in the order of the check."""
        found = -self.layer.weight.reshape(-1, self.parallel)
        return found % self.modulus if self.modulus else found

    @functools.cached_property
    def biases(self) -> tuple[int, ...]:
        """Minus `windows` times the bias of each channel."""
        found = -self.layer.bias.reshape(-1) * self.layer.window.windows
        return tuple((found % self.modulus if self.modulus else found).tolist())

    @functools.cached_property
    def weight_bits(self) -> int:
        """Bits of a weight: a residue, or signed."""
        return number_bits(self.layer.modulus, self.layer.weight_bits + 1)

    @property
    def parts(self) -> int:
        """Cycles for the `simd` products of a step."""
        return self.layer.simd // self.parallel

    @property
    def macs(self) -> int:
        """Products of a check."""
        return int(self.layer.weight.size)

    def cycles(self, parallel: int) -> int:
        """Cycles from the first word of a frame's last group to the verdict."""
        return self.macs // parallel + self.LATENCY

    @property
    def most_cycles(self) -> int:
        """Cycles that a check may take: the next frame's must not begin before."""
        layer = self.layer
        return layer.groups_per_frame * layer.steps - layer.lane_cycles - layer.drain_cycles

    def late(self, parallel: int) -> int:
        """Cycles by which a frame's last group leaves later than without a check."""
        return max(0, self.cycles(parallel) - self.layer.requantize_cycles - 1)

    @functools.cached_property
    def parallel(self) -> int:
        """The fewest multipliers, a divisor of `simd`, that end in time; 0 where none do.

        In time: before the next frame's check, and before more than a frame waits in the FIFO.
        """
        simd = self.layer.simd
        for count in (n for n in range(1, simd + 1) if simd % n == 0):
            fits = self._fifo_beats(count) <= self.layer.beats_per_frame
            if fits and self.cycles(count) <= self.most_cycles:
                return count
        return 0

    def _fifo_beats(self, parallel: int) -> int:
        """Depth of the FIFO in which a frame's last group waits; as `LayerConfig.fifo_beats`."""
        layer = self.layer
        flight = layer.pipeline_cycles + self.late(parallel) + layer.beats + layer.steps
        return 1 << clog2(ceil(flight / layer.steps) * layer.beats)

    def refusal(self) -> str:
        """Why there is no such check, empty where there is one."""
        if self.parallel:
            return ""
        layer, cycles = self.layer, self.cycles(self.layer.simd)
        text = (
            f"the input form of its checksum multiplies {self.macs} weights after a frame, "
            f"{layer.simd} a cycle: {cycles} cycles, "
        )
        if cycles > self.most_cycles:
            return f"{text}where the next frame leaves {max(0, self.most_cycles)}"
        beats = self._fifo_beats(layer.simd)
        return f"{text}in which {beats} beats would wait, and a frame has {layer.beats_per_frame}"
