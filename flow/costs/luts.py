"""LUTs by a linear model: what a layer has of each kind of logic, times a fitted price.

Prices come from whole small networks that `flow.characterize` synthesised; the table of a family
names the tools, the command and the error on designs that the fit never saw. LUTs that hold words
(LUT RAM) are counted exactly and bear no price.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np

from ...hw.config import (
    ADDS_PER_RANK,
    ArgMaxConfig,
    LayerConfig,
    LinearConfig,
    PoolConfig,
    clog2,
)
from .blocks import Placed, products
from .families import Blocks
from .ffs import registers
from .mapped import distinct_columns, distinct_weights
from .requantize import Requantizer, requantizers
from .shapes import tree_sums

__all__ = ["Model", "features", "model"]

TABLES = Path(__file__).parent / "tables"
LUT_ENTRIES = 16
"""Entries of a one-bit table that one LUT with four inputs holds."""


@dataclass(frozen=True)
class Model:
    """Prices of a family in LUTs, the tools they hold for, and the errors of the fit.

    `errors`: `luts` and `ffs`, mean relative errors (0.05 = 5 %) of whole designs, for LUTs of
    designs that the fit did not see; `worst`, the largest of those.
    """

    prices: Mapping[str, float]
    tools: str
    designs: int
    errors: Mapping[str, float]

    def luts(self, found: Mapping[str, float], lutrams: float) -> float:
        """LUTs of a layer from its features and the LUTs of its LUT RAM."""
        return lutrams + sum(self.prices.get(name, 0.0) * n for name, n in found.items())


@functools.cache
def model(family: str) -> Model | None:
    """The fitted model of a family, None where nobody measured one."""
    path = TABLES / f"{family}.json"
    if not path.is_file():
        return None
    table = json.loads(path.read_text())
    return Model(table["prices"], table["tools"], table["designs"], table["errors"])


def features(
    layer: LayerConfig, placed: Sequence[Placed], lanes: int, family: Blocks
) -> dict[str, float]:
    """Amounts of logic in a layer and in the converters before it, whose source has `lanes`."""
    found: dict[str, float] = {"layer": 1.0}
    _add(found, _window(layer, placed))
    _add(found, _converter(layer, lanes))
    _add(found, _control(layer))
    match layer:
        case LinearConfig():
            _add(found, _linear(layer, placed, family))
            if layer.modulus:
                _add(found, _checksum(layer))
        case PoolConfig():
            bits = layer.acc_bits if layer.average else 2 * layer.window.lane_bits
            found["pool_bits"] = layer.out_lanes * bits
        case ArgMaxConfig():
            found["argmax_bits"] = layer.in_bits + layer.out_bits
    if isinstance(layer, LinearConfig | PoolConfig):
        _add(found, _requantizers(requantizers(layer)))
    return found


def _add(found: dict[str, float], more: Iterable[tuple[str, float]]) -> None:
    for name, amount in more:
        found[name] = found.get(name, 0.0) + amount


def _rom(entries: int, columns: int) -> float:
    """LUTs of a table in logic, free multiplexers: a function of n inputs takes 2^n / 16."""
    return columns * (entries / LUT_ENTRIES if entries > LUT_ENTRIES else min(1, entries - 1))


def _window(layer: LayerConfig, placed: Sequence[Placed]) -> Iterable[tuple[str, float]]:
    window = layer.window
    address = clog2(window.depth)
    yield "position_bits", window.index_bits
    yield "address_bits", window.ports * address
    yield "offset_rom", _rom(window.steps, window.ports * address)
    yield "offset_rom", _rom(len(window.passes), address)
    if window.padded:
        yield "padding_bits", window.ports * (window.word * window.lane_bits + 2)
        yield "offset_rom", _rom(window.out_size[0], window.kernel[0])
        yield "offset_rom", _rom(window.out_size[1], window.kernel[1])
    for one in placed:
        memory = one.memory
        if not memory.written:
            continue
        if one.ram is None:
            yield "memory_bits", memory.depth * memory.width * memory.count
        elif one.rows > 1:
            yield "memory_mux", (one.rows - 1) * (memory.width + 1) * memory.count
        if memory.role == "window" and one.brams:
            yield "bypass_bits", memory.count * (memory.width + address)


def _converter(layer: LayerConfig, lanes: int) -> Iterable[tuple[str, float]]:
    word, bits = layer.window.word, layer.window.lane_bits
    wide = lanes * word // gcd(lanes, word)
    if wide > lanes:
        yield "converter", 1
    if wide > word:
        yield "converter", 1
        yield "split_bits", wide * bits


def _control(layer: LayerConfig) -> Iterable[tuple[str, float]]:
    bits = sum(r.total for r in registers(layer) if r.role == "control")
    yield "control_bits", bits
    yield "parity_bits", bits * layer.checked


def _linear(
    layer: LinearConfig, placed: Sequence[Placed], family: Blocks
) -> Iterable[tuple[str, float]]:
    passes, pe, steps, simd = layer.weight.shape
    lanes = pe + 2 * len(layer.replicated)
    if layer.constant_weights:
        yield from _constant_products(layer, family)
    elif layer.multiplier == "lut" or family.dsp is None:
        yield "multiplier_bits", lanes * simd * layer.act_bits * layer.weight_bits
    weights = [one for one in placed if one.memory.role == "weight"]
    if weights and not weights[0].brams:
        yield "weight_rom", _rom(passes * steps, distinct_weights(layer))
    sums = tree_sums(simd, layer.product_bits, layer.acc_bits, ADDS_PER_RANK)
    yield "sum_bits", lanes * sum(sums)
    extra = simd - 1 - len(sums)  # operands beyond two in a rank are compressed first
    yield "compress_bits", lanes * max(0, extra) * layer.product_bits
    yield "acc_bits", lanes * layer.acc_bits
    if (layer.bias != layer.bias[0]).any():
        yield "bias_rom", _rom(passes, lanes * layer.acc_bits)
    yield "drain_bits", pe * layer.acc_bits if layer.beats > 1 else 0
    yield "voter_bits", len(layer.replicated) * layer.acc_bits


def _constant_products(layer: LinearConfig, family: Blocks) -> Iterable[tuple[str, float]]:
    for product in products(layer):
        if product.role == "constant":
            blocks = family.dsp.blocks(product.a, product.b, product.bits) if family.dsp else 0
            if not blocks:
                yield "multiplier_bits", product.count * product.a[0] * product.b[0]


def _checksum(layer: LinearConfig) -> Iterable[tuple[str, float]]:
    assert layer.modulus is not None
    r = layer.modulus.bit_length()
    passes, _, steps, simd = layer.weight.shape
    yield "checksum", 1
    yield "residue_bits", simd * layer.act_bits + layer.out_lanes * layer.acc_bits
    yield "residue_sums", (2 * simd + layer.out_lanes + 2) * r
    yield "residue_products", simd * r * r
    yield "checksum_rom", _rom(passes * steps, r * simd + 2)


def _requantizers(units: Sequence[Requantizer]) -> Iterable[tuple[str, float]]:
    for unit in units:
        yield "round_bits", sum(unit.products) if len(unit.products) > 1 else 0
        width = max(unit.products, default=unit.acc_bits)
        yield "scale_bits", max(1, width - unit.shift)
        yield "clamp_bits", unit.out_bits
    if units:
        yield "column_rom", _rom(units[0].entries, distinct_columns(units))


def as_matrix(
    rows: Sequence[Mapping[str, float]],
) -> tuple[list[str], np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    """Feature names in order, and the amounts as a matrix (designs, features)."""
    names = sorted({name for row in rows for name in row})
    return names, np.array([[row.get(name, 0.0) for name in names] for row in rows])
