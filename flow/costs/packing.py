"""Registers and adders that move into multiplier blocks, as Yosys's xilinx_dsp and ice40_dsp do."""

from __future__ import annotations

from dataclasses import replace

from ...hw.config import ADDS_PER_RANK, LayerConfig
from ...hw.join_config import JoinConfig
from ...hw.linear_config import LinearConfig
from ...hw.pairs import half_bits
from ...hw.reduce_config import PoolConfig
from .blocks import dsps, products, single_lanes
from .families import Blocks
from .requantize import Requantizer, distinct_columns, requantizers
from .shapes import Shape, tree_sums

__all__ = [
    "in_blocks",
    "packed_registers",
    "packed_sums",
    "pairs_in_blocks",
    "saves_blocks",
    "scaled_in_blocks",
    "taken",
]


def packed_registers(layer: LayerConfig, family: Blocks) -> int:
    """Flip-flops of a layer that end up inside its multiplier blocks."""
    if family.dsp is None or family.dsp.packing == "none":
        return 0
    total = 0
    if isinstance(layer, LinearConfig):
        total += _lanes(layer, family) if in_blocks(layer, family) else 0
        if pairs_in_blocks(layer, family):  # with the constant that is added
            total += 2 * half_bits(layer) * layer.simd * len(layer.pairs)
    if isinstance(layer, LinearConfig | PoolConfig | JoinConfig):
        units = requantizers(layer)
        total += sum(_products(unit, family) for unit in units)
        if family.dsp.packing == "sums" and units and scaled_in_blocks(units[0], family):
            total += distinct_columns(units)
            total += layer.out_lanes * units[0].acc_bits * (layer.beats > 1)
    return total


def _lanes(layer: LinearConfig, family: Blocks) -> int:
    """Registers of single lanes: products, and what the blocks add to them."""
    assert family.dsp is not None
    bits, lanes = term_bits(layer), single_lanes(layer)
    total = lanes * layer.simd * bits
    if family.dsp.packing == "sums" and layer.simd > 1:
        sums = tree_sums([bits] * layer.simd, layer.acc_bits, ADDS_PER_RANK)
        total += lanes * sum(sums[: -(-layer.simd // ADDS_PER_RANK)])
    elif family.dsp.packing == "sums":  # a replica reloads what was voted
        total += (lanes - 3 * len(layer.replicated)) * layer.acc_bits
    return total


def packed_sums(layer: LinearConfig, family: Blocks) -> bool:
    """Whether the blocks add the products of a rank, or accumulate."""
    return family.dsp is not None and family.dsp.packing == "sums" and in_blocks(layer, family)


def term_bits(layer: LinearConfig) -> int:
    """Bits of a product that are registered: an unsigned factor's sign bit is none."""
    return layer.product_bits - (not layer.act_signed)


def in_blocks(layer: LinearConfig, family: Blocks) -> bool:
    """Whether the lanes' products are made by multiplier blocks."""
    lanes = [product for product in products(layer) if product.role == "lane"]
    return bool(lanes) and all(taken(p.a, p.b, p.bits, family) for p in lanes)


def pairs_in_blocks(layer: LinearConfig, family: Blocks) -> bool:
    """Whether a block makes the products of two lanes."""
    pairs = [product for product in products(layer) if product.role == "pair"]
    return any(taken(p.a, p.b, p.bits, family) for p in pairs)


def saves_blocks(layer: LayerConfig, family: Blocks) -> bool:
    """Whether lanes share multipliers, and take fewer blocks than they would alone."""
    if not isinstance(layer, LinearConfig) or not layer.pairs:
        return False
    alone = replace(layer, multiplier="dsp")
    return dsps(products(layer), family) < dsps(products(alone), family)


def taken(a: Shape, b: Shape, bits: int, family: Blocks) -> bool:
    """Whether a product of operands goes to a block."""
    return family.dsp is not None and family.dsp.blocks(a, b, bits) > 0


def _products(unit: Requantizer, family: Blocks) -> int:
    """Registers of a requantiser's products; a single one has no bits below the rounding anyway."""
    if not scaled_in_blocks(unit, family):
        return 0
    if len(unit.products) == 1:
        return max(0, unit.products[0] - max(0, unit.shift - 1))
    return sum(unit.products)


def scaled_in_blocks(unit: Requantizer, family: Blocks) -> bool:
    """Whether each product of a requantiser is one block."""
    factors = zip(unit.factors, unit.products, strict=True)
    return bool(unit.factors) and all(taken(a, b, bits, family) for (a, b), bits in factors)
