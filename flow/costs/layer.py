"""Resources of one layer: registers and blocks by rule, LUTs by the family's model."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from ...hw.config import LayerConfig
from . import blocks, ffs, luts, mapped
from .families import FAMILIES, Blocks

__all__ = ["Resources", "resources"]


@dataclass(frozen=True, slots=True)
class Resources:
    """LUTs, flip-flops after synthesis, register bits of the Verilog, DSP and memory blocks.

    None where the family has no rules, or no model of LUTs.
    """

    luts: int | None
    ffs: int | None
    rtl_ffs: int
    dsps: float | None
    brams: float | None


def resources(layer: LayerConfig, lanes: int, family: str, *, first: bool = False) -> Resources:
    """Resources of a layer with the converter before it, whose source has `lanes`.

    `first`: nothing flags frames before it. Layers compare by identity, and `configure_layer` hands
    out one for equal foldings.
    """
    return _resources(layer, lanes, FAMILIES.get(family), luts.model(family), first=first)


@functools.lru_cache(maxsize=8192)
def _resources(
    layer: LayerConfig, lanes: int, family: Blocks | None, model: luts.Model | None, *, first: bool
) -> Resources:
    held = tuple(ffs.registers(layer))
    rtl = ffs.ff_bits(held) + ffs.ff_bits(ffs.converter(lanes, layer))
    if family is None:
        return Resources(None, None, rtl, None, None)
    placed = blocks.place(layer, family)
    price = None
    if model is not None:
        amounts = luts.features(layer, held, placed, lanes, family)
        price = round(model.luts(amounts, sum(one.lutrams for one in placed)))
    flip_flops = rtl + mapped.added(layer, placed, family, first=first)
    dsps = blocks.dsps(blocks.products(layer), family)
    return Resources(price, flip_flops, rtl, dsps, _whole(sum(one.brams for one in placed)))


def _whole(value: float) -> float:
    return int(value) if value == int(value) else value
