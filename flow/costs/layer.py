"""Resources of one layer: registers and blocks by rule, LUTs by the family's model."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...hw.config import INPUT, LayerConfig, inlet, inlet_control
from . import blocks, ffs, luts, mapped
from .families import FAMILIES, Blocks
from .joins import fork_registers
from .registers import Register

__all__ = ["Resources", "around", "forks", "layer_resources", "operand_lanes", "resources"]

Fork = tuple[int, str]
"""Readers of a fork, and how its control is protected."""


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


def resources(
    layer: LayerConfig,
    lanes: tuple[int, ...],
    family: str,
    *,
    forks: tuple[Fork, ...] = (),
    first: bool = False,
) -> Resources:
    """Resources of a layer with the converters before it; its operands' streams have `lanes`.

    `forks` are those that belong to it; `first`: nothing flags frames before it.
    Layers compare by identity, and `configure_layer` hands out one for equal foldings.
    """
    model = luts.model(family)
    return _resources(layer, lanes, FAMILIES.get(family), model, forks=forks, first=first)


def layer_resources(layers: Sequence[LayerConfig], family: str) -> list[Resources]:
    """Resources of a design's layers, forks and converters among them; as `resources`."""
    between = zip(layers, operand_lanes(layers), forks(layers), strict=True)
    return [
        resources(layer, lanes, family, forks=behind, first=index == 0)
        for index, (layer, lanes, behind) in enumerate(between)
    ]


def forks(layers: Sequence[LayerConfig]) -> list[tuple[Fork, ...]]:
    """For each layer the forks that belong to it: behind it, the input's to the first layer."""
    readers = Counter(source for layer in layers for source in layer.sources)
    found, start = [], inlet_control(tuple(layers))
    for index, layer in enumerate(layers):
        every = [(readers[layer.name], layer.control), (readers[INPUT] * (index == 0), start)]
        found.append(tuple(fork for fork in every if fork[0] > 1))
    return found


def operand_lanes(layers: Sequence[LayerConfig]) -> list[tuple[int, ...]]:
    """For each layer the lanes of the streams that its operands come from."""
    lanes = {layer.name: layer.out_lanes for layer in layers}
    lanes[INPUT], _ = inlet(tuple(layers))
    return [tuple(lanes[source] for source in layer.sources) for layer in layers]


@functools.lru_cache(maxsize=8192)
def _resources(
    layer: LayerConfig,
    lanes: tuple[int, ...],
    family: Blocks | None,
    model: luts.Model | None,
    *,
    forks: tuple[Fork, ...],
    first: bool,
) -> Resources:
    held = tuple(ffs.registers(layer))
    between = tuple(around(layer, lanes, forks))
    rtl = ffs.ff_bits(held) + ffs.ff_bits(between)
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


def around(
    layer: LayerConfig, lanes: tuple[int, ...], forks: tuple[Fork, ...] = ()
) -> Iterator[Register]:
    """Registers of the converters before a layer and of the forks behind it."""
    for port, width in enumerate(lanes):
        yield from ffs.converter(width, layer, port)
    for readers, control in forks:
        yield from fork_registers(readers, control)


def _whole(value: float) -> float:
    return int(value) if value == int(value) else value
