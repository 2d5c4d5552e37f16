"""What a user chooses for a layer: how far it is folded, and what protects it. No Amaranth."""

from __future__ import annotations

from dataclasses import dataclass

from ..quant.errors import InputError

__all__ = ["MULTIPLIERS", "UNPROTECTED", "Fold", "Protection", "divides"]

MULTIPLIERS = ("dsp", "dsp2", "lut", "shift")
"""How a layer multiplies: `*`, one `*` for two lanes, sums of shifted rows, or unrolled into shared
shift-adds."""


@dataclass(frozen=True)
class Fold:
    """How far a layer is folded: `pe` output lanes of `simd` multipliers, one of `MULTIPLIERS`.

    `weights` is where they lie: "block" RAM, "logic", or "auto": block RAM above
    `hw.config.BLOCK_BITS` bits a lane.

    `pixels` adjacent output pixels are computed at once, each by lanes of its own; above 1 `pe` and
    `simd` are those of one pixel, and all that there are.

    Pools take `pe` channels of `simd` elements of a window a cycle, a global average `pixels`
    pixels of its input. Add, Concat and Pad pass `pe` channels, or whole pixels: `pixels` of them.
    ArgMax uses neither.
    """

    pe: int = 1
    simd: int = 1
    multiplier: str = "dsp"
    weights: str = "auto"
    pixels: int = 1


@dataclass(frozen=True)
class Protection:
    """What hardens a layer.

    `modulus` of its checksum, or "exact", or None; the checksum's `form`, "filter", "input" or
    "auto" (`hw.linear_layer.formed`), and how often a group is computed again that failed it
    (`retry`). Output channels (`neurons`) under TMR, their `mode`, "spatial" or "temporal", and
    `voters` for each, 1 or 3. How `control` registers are protected ("none", "parity", "tmr"),
    words on their way to the next layer (`stream`: "none", "parity", "residue", "secded"),
    registers behind the accumulators (`post`: "none", "parity", "dup", "tmr") and `weights`
    ("none", "parity", "secded").
    """

    modulus: int | str | None = None
    neurons: tuple[int, ...] = ()
    control: str = "none"
    form: str = "filter"
    retry: int = 0
    mode: str = "spatial"
    voters: int = 1
    stream: str = "none"
    post: str = "none"
    weights: str = "none"


UNPROTECTED = Protection()


def divides(layer: str, name: str, value: int, total: int, what: str) -> None:
    """InputError, naming layer and values that do, unless `value` divides `total`."""
    if value < 1 or total % value:
        raise InputError(
            f"layer {layer}: {name} = {value} does not divide {total} ({what}); "
            f"choose one of {[n for n in range(1, total + 1) if total % n == 0]}"
        )
