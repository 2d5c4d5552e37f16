"""Registers and adders that move into multiplier blocks, as Yosys's xilinx_dsp and ice40_dsp do."""

from __future__ import annotations

from ...hw.config import ADDS_PER_RANK, LayerConfig, LinearConfig, PoolConfig
from ...hw.join_config import AddConfig, JoinConfig
from .blocks import products
from .families import Blocks
from .requantize import Requantizer, distinct_columns, requantizers
from .shapes import Shape, tree_sums

__all__ = ["in_blocks", "packed_registers", "packed_sums", "scaled_in_blocks", "taken"]


def packed_registers(layer: LayerConfig, family: Blocks) -> int:
    """Flip-flops of a layer that end up inside its multiplier blocks."""
    if family.dsp is None or family.dsp.packing == "none":
        return 0
    total = 0
    if isinstance(layer, LinearConfig) and in_blocks(layer, family):
        bits = term_bits(layer)
        lanes = layer.pe + 2 * len(layer.replicated)
        total += lanes * layer.simd * bits
        if family.dsp.packing == "sums" and layer.simd > 1:
            sums = tree_sums([bits] * layer.simd, layer.acc_bits, ADDS_PER_RANK)
            total += lanes * sum(sums[: -(-layer.simd // ADDS_PER_RANK)])
        elif family.dsp.packing == "sums":  # a replica reloads what was voted
            total += (layer.pe - len(layer.replicated)) * layer.acc_bits
    if isinstance(layer, AddConfig):  # the element's register and the product's
        rescaled = (p for p in products(layer) if p.role == "rescale")
        total += sum(
            p.count * (p.a[0] + p.bits) for p in rescaled if taken(p.a, p.b, p.bits, family)
        )
    if isinstance(layer, LinearConfig | PoolConfig | JoinConfig):
        units = requantizers(layer)
        total += sum(_products(unit, family) for unit in units)
        if family.dsp.packing == "sums" and units and scaled_in_blocks(units[0], family):
            total += distinct_columns(units)
            total += layer.out_lanes * units[0].acc_bits * (layer.beats > 1)
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
