"""How Yosys places memories and multipliers in each family: its library files, as data.

Sources, all of Yosys 0.70: `share/lattice/{brams_16kd,lutrams_trellis}.txt`, `share/gowin/*.txt`,
`share/ice40/brams.txt`, `share/xilinx/{brams_xc4v,lutrams_xc5v}.txt`, `share/mul2dsp.v` and the
synthesis scripts; the choice between them follows the pass memory_libmap.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from math import ceil, inf

__all__ = ["FAMILIES", "Blocks", "Dsp", "Ram"]

ROM_BIT_COST = 1 / 16
"""What memory_libmap charges for a ROM bit in logic; a bit of a written memory costs 1."""

MUX_COST, EMULATION_COST = 0.5, 2.0


@dataclass(frozen=True, eq=False)
class Ram:
    """A memory cell: 2^`abits` units of `widths` bits; `weight` blocks (LUT RAM: LUTs) a cell.

    `cost` and `scaled` are memory_libmap's base cost and the part of it that grows with the width.
    `port` is its emulation score for a plain read port, `window` for a read that sees the old word.
    """

    kind: str
    abits: int
    widths: tuple[int, ...]
    cost: float
    weight: float
    scaled: float = 0.0
    byte: int = 0
    port: int = 1
    window: int = 1
    rom: bool = True
    least_written: int = 0

    def place(self, depth: int, width: int, written: bool, score: int) -> tuple[float, int, int]:
        """(cost, cells, address multiples) of the cheapest shape."""
        best: tuple[float, int, int] | None = None
        for log, unit in enumerate(self.widths):
            if written and unit < self.least_written:
                continue
            words = 1 << (self.abits - log)
            rows = ceil(depth / words)
            byte = min(self.byte or unit, unit) if written else 1
            cells = ceil(rows * ceil(width / byte) * byte / unit)
            cost = (self.cost - self.scaled) * cells + self.scaled * rows * width / unit
            cost += MUX_COST * (rows - 1) * width + EMULATION_COST * score
            if written and rows > 1:
                cost += MUX_COST * rows
            if best is None or cost < best[0]:
                best = (cost, cells, rows)
        assert best is not None
        return best


@dataclass(frozen=True, eq=False)
class Dsp:
    """A multiplier block: operand limits, and the least result that mul2dsp gives to a block."""

    a_bits: int
    b_bits: int
    signed_only: bool = False
    least_bits: int = 2
    least_result: int = 9

    @functools.lru_cache(maxsize=4096)  # noqa: B019 - as above
    def blocks(self, a: tuple[int, bool], b: tuple[int, bool], result: int) -> int:
        """Blocks of one product of operands (bits, signed); 0 where it stays in LUTs."""
        if a[1] != b[1]:  # Amaranth and Yosys give both a sign
            a, b = ((bits + (not sign), True) for bits, sign in (a, b))
        wide, narrow = max(a[0], b[0]), min(a[0], b[0])
        if narrow < self.least_bits or result < self.least_result:
            return 0
        if self.signed_only and not a[1]:
            wide, narrow = wide + 1, narrow + 1
        count = 0
        for part in _slices(wide, self.a_bits, self.signed_only):
            for other in _slices(narrow, self.b_bits, self.signed_only):
                count += min(part, other) >= self.least_bits
        return count


def _slices(bits: int, most: int, headroom: bool) -> list[int]:
    """Widths of the slices that mul2dsp cuts an operand into."""
    if bits <= most:
        return [bits]
    step = most - headroom
    count = ceil((bits - most) / step)
    return [most] * count + [bits - count * step]


@dataclass(frozen=True, eq=False)
class Blocks:
    """Memories (the first of equal cost wins) and multipliers of a family."""

    rams: tuple[Ram, ...]
    dsp: Dsp | None

    @functools.lru_cache(maxsize=4096)  # noqa: B019 - families live as long as the module
    def memory(
        self,
        depth: int,
        width: int,
        *,
        written: bool,
        registered: bool,
        resets: bool = False,
        style: str = "auto",
    ) -> tuple[Ram | None, int, int]:
        """Cell (None: flip-flops and LUTs), cells and address multiples that a memory takes.

        `registered`: the word goes straight to a register; `resets`: to one that is set to
        something else than 0 now and then; `style` "block" or "logic" decides beforehand.
        """
        found: tuple[Ram | None, int, int] = (None, 0, 0)
        best = float(depth * width) if written else depth * width * ROM_BIT_COST
        if style != "auto":
            best = 0.0 if style == "logic" else inf
        for ram in self.rams:
            if style == "block" and ram.kind != "bram":
                continue
            if (ram.kind == "bram" and not registered) or not (written or ram.rom):
                continue
            score = ram.window if written else ram.port
            score += 2 * resets if ram.kind == "bram" else 0
            cost, cells, rows = ram.place(depth, width, written, score)
            if cost < best:
                best, found = cost, (ram, cells, rows)
        return found


_NARROW, _WIDE = (1, 2, 4, 9, 18), (1, 2, 4, 9, 18, 36)

_ECP5 = Blocks(
    (
        Ram("lutram", 4, (4,), 4, 4, rom=False),
        Ram("bram", 14, _NARROW, 128, 1, byte=9, window=7),
        Ram("bram", 14, _WIDE, 128, 1, byte=9, window=7, least_written=36),
    ),
    Dsp(18, 18, least_result=1),
)
FAMILIES: dict[str, Blocks] = {"ecp5": _ECP5}
