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
    """A multiplier block, as mul2dsp uses it.

    Operands of at most `a_bits` and `b_bits` (the wider one is a) and at least `least_a` and
    `least_b`; the least result that a block is taken for; `part`, the slices that a wider a is cut
    into (0: `a_bits`). `weight` blocks of the device a cell; `smaller` is tried where this one is
    not taken. `packing` tells what moves into the block: "none", "outputs" (the register of a
    product), "sums" (those of products and of the adders behind them).
    """

    a_bits: int
    b_bits: int
    signed_only: bool = False
    least_a: int = 2
    least_b: int = 2
    least_result: int = 9
    part: int = 0
    weight: float = 1.0
    smaller: Dsp | None = None
    packing: str = "none"

    @functools.lru_cache(maxsize=4096)  # noqa: B019 - as above
    def blocks(self, a: tuple[int, bool], b: tuple[int, bool], result: int) -> float:
        """Blocks of one product of operands (bits, signed); 0 where it stays in LUTs."""
        if a[1] != b[1]:  # Amaranth and Yosys give both a sign, the result needs but one
            result = min(result, a[0] + b[0])
            a, b = ((bits + (not sign), True) for bits, sign in (a, b))
        wide, narrow = max(a[0], b[0]), min(a[0], b[0])
        if self.signed_only and not a[1]:
            wide, narrow = wide + 1, narrow + 1
        return self._blocks(wide, narrow, result)

    def _blocks(self, wide: int, narrow: int, result: int) -> float:
        if wide < self.least_a or narrow < self.least_b or result < self.least_result:
            return self.smaller._blocks(wide, narrow, result) if self.smaller else 0
        a_parts = _slices(wide, self.a_bits, self.part or self.a_bits, self.signed_only)
        b_parts = _slices(narrow, self.b_bits, self.b_bits, self.signed_only)
        if len(a_parts) * len(b_parts) == 1:
            return self.weight
        return sum(self._blocks(i, j, i + j) for i in a_parts for j in b_parts)


def _slices(bits: int, most: int, part: int, headroom: bool) -> list[int]:
    """Widths of the slices that mul2dsp cuts an operand into."""
    if bits <= most:
        return [bits]
    step = part - headroom
    count = ceil((bits - most) / step)
    return [part] * count + [bits - count * step]


@dataclass(frozen=True, eq=False)
class Blocks:
    """Memories (the first of equal cost wins) and multipliers of a family.

    `table` names the prices of its LUTs (families of equal logic cells share them); `lut_inputs`
    of a LUT; `rom_bit` is what memory_libmap charges for a ROM bit in logic (a bit of
    a written memory costs 1). `reads_old`: a memory block gives the old word of an address that is
    written, as the circuit's buffers do; else Yosys adds a delayed write and a bypass. `tidies`:
    equal registers, and those that only they themselves read, are found behind several gates.
    """

    table: str
    rams: tuple[Ram, ...]
    dsp: Dsp | None
    lut_inputs: int = 4
    rom_bit: float = 1 / 16
    reads_old: bool = False
    tidies: bool = False

    @functools.lru_cache(maxsize=4096)  # noqa: B019 - families live as long as the module
    def memory(
        self,
        depth: int,
        width: int,
        *,
        written: bool,
        registered: bool,
        resets: bool = False,
        apart: bool = False,
        style: str = "auto",
    ) -> tuple[Ram | None, int, int]:
        """Cell (None: flip-flops and LUTs), cells and address multiples that a memory takes.

        `registered`: the word goes straight to a register; `resets`: to one that is set to
        something else than 0 now and then; `apart`: no word is read while it is written;
        `style` "block" or "logic" decides beforehand.
        """
        found: tuple[Ram | None, int, int] = (None, 0, 0)
        best = float(depth * width) if written else depth * width * self.rom_bit
        if style != "auto":
            best = 0.0 if style == "logic" else inf
        for ram in self.rams:
            if style == "block" and ram.kind != "bram":
                continue
            if (ram.kind == "bram" and not registered) or not (written or ram.rom):
                continue
            score = ram.window if written and not apart else ram.port
            score += 2 * resets if ram.kind == "bram" else 0
            cost, cells, rows = ram.place(depth, width, written, score)
            if cost < best:
                best, found = cost, (ram, cells, rows)
        return found


_NARROW, _WIDE = (1, 2, 4, 9, 18), (1, 2, 4, 9, 18, 36)

_ECP5 = Blocks(
    "ecp5",
    (
        Ram("lutram", 4, (4,), 4, 4, rom=False),
        Ram("bram", 14, _NARROW, 128, 1, byte=9, window=7),
        Ram("bram", 14, _WIDE, 128, 1, byte=9, window=7, least_written=36),
    ),
    Dsp(18, 18, least_result=1),
)
_XC7 = Blocks(
    "xc7",
    (
        Ram("lutram", 6, (3, 6), 8, 4, scaled=7, rom=False),
        Ram("bram", 14, _WIDE, 129, 0.5, byte=9),
        Ram("bram", 15, (*_WIDE, 72), 257, 1, byte=9),
    ),
    Dsp(25, 18, signed_only=True, part=18, packing="sums"),
    lut_inputs=6,
    rom_bit=1 / 64,
    reads_old=True,
    tidies=True,
)
_ICE40 = (Ram("bram", 11, (2, 4, 8, 16), 64, 1, window=7),)
_ICE40_HX = Blocks("ice40", _ICE40, None)
_ICE40_UP = Blocks("ice40", _ICE40, Dsp(16, 16, least_result=11, packing="outputs"))
_GOWIN = Blocks(
    "gowin",
    (
        Ram("lutram", 4, (4,), 4, 4, scaled=4, rom=False),
        Ram("bram", 14, _WIDE, 128, 1, byte=9, window=7),
    ),
    # 36x36, 18x18 and 9x9 multipliers, counted in the middle ones.
    Dsp(
        36, 36, least_a=22, least_b=22, least_result=1, weight=4,
        smaller=Dsp(
            18, 18, least_a=10, least_b=4, least_result=1,
            smaller=Dsp(9, 9, least_a=4, least_b=4, least_result=1, weight=0.5),
        ),
    ),
)  # fmt: skip
FAMILIES: dict[str, Blocks] = {
    "ecp5": _ECP5,
    "xc7": _XC7,
    "ice40-hx": _ICE40_HX,
    "ice40-up": _ICE40_UP,
    "gw1n": _GOWIN,
    "gw2a": _GOWIN,
}
