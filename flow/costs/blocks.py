"""Memories and multipliers of a layer, and the blocks that they become, by closed form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ...hw.code_words import code_bits, mark_code
from ...hw.config import LayerConfig, WindowedConfig, clog2
from ...hw.join_config import JoinConfig
from ...hw.linear_config import LinearConfig
from ...hw.pairs import half_bits, high_bits
from ...hw.reduce_config import PoolConfig
from .checks import check_products, check_row, check_store
from .families import Blocks, Ram
from .joins import STREAM_MARKS, element, scales
from .requantize import requantizers
from .retry import log_words
from .shapes import Shape, const, multiply
from .thresholds import threshold_units

__all__ = [
    "Memory",
    "Placed",
    "Product",
    "dsps",
    "memories",
    "place",
    "products",
    "single_lanes",
    "weight_words",
]


@dataclass(slots=True)
class Memory:
    """`count` memories of `depth` words of `width` bits each.

    `role` is weight, window, fifo, skip, column, checker, bank or log; `registered`: a register
    follows; `resets`: that register takes another value than the word now and then; `apart`: no
    word is read while it is written, and Yosys proves it; `style`: where the circuit wants it,
    "block", "logic" or "auto".
    """

    role: str
    depth: int
    width: int
    count: int
    written: bool
    registered: bool
    resets: bool = False
    apart: bool = False
    style: str = "auto"


@dataclass(slots=True)
class Placed:
    """A memory with its cell (None: logic), cells each, and address multiples."""

    memory: Memory
    ram: Ram | None
    cells: int
    rows: int

    @property
    def brams(self) -> float:
        """Memory blocks of all copies."""
        if self.ram is None or self.ram.kind != "bram":
            return 0.0
        return self.ram.weight * self.cells * self.memory.count

    @property
    def lutrams(self) -> float:
        """LUTs that hold words, of all copies."""
        if self.ram is None or self.ram.kind != "lutram":
            return 0.0
        return self.ram.weight * self.cells * self.memory.count


@dataclass(slots=True)
class Product:
    """`count` multiplications of operands a and b into `bits` bits."""

    role: str
    a: Shape
    b: Shape
    bits: int
    count: int


def memories(layer: LayerConfig) -> Iterator[Memory]:
    """Every memory of a layer's circuit that Yosys may place in RAM cells."""
    if isinstance(layer, JoinConfig):
        yield from _join_memories(layer)
        return
    assert isinstance(layer, WindowedConfig)
    window = layer.window
    resets = window.padded and window.pad_value != 0
    if not layer.direct:
        for kept, ports in Counter(map(len, window.kept)).items():
            width = kept * (window.lane_bits + window.code_bits)
            yield Memory("window", window.depth, width, ports, True, True, resets)
    checked = isinstance(layer, LinearConfig) and layer.modulus is not None
    yield Memory("fifo", layer.fifo_beats, _beat_bits(layer, checked), 1, True, False)
    if isinstance(layer, LinearConfig):
        yield from _weights(layer)
        yield from _checks(layer)
        if layer.retry:
            for width in log_words(layer):
                yield Memory("log", layer.log_groups, width, 1, True, False)
    if isinstance(layer, LinearConfig | PoolConfig):
        for unit in requantizers(layer):
            for bits in unit.columns:
                yield Memory("column", unit.entries, bits, 1, False, True)
    for search in threshold_units(layer):  # later ranks choose between two tables: logic
        if search.ranks[0].by_index:
            yield Memory("column", search.entries, search.ranks[0].bits, 1, False, True)


def _beat_bits(layer: LayerConfig, more: int = 0) -> int:
    """Bits of a beat in the output FIFO; `more` marks than a stream's."""
    marks = STREAM_MARKS + more
    data = layer.out_lanes * (layer.out_bits + layer.out_code_bits)
    return data + marks + code_bits(mark_code(layer.stream), marks)


def _join_memories(layer: JoinConfig) -> Iterator[Memory]:
    for port, operand in enumerate(layer.operands):
        width = operand.lanes * layer.operand_bits[port] + STREAM_MARKS
        width += code_bits(mark_code(layer.in_code(port)), STREAM_MARKS)
        yield Memory("skip", 1 << clog2(operand.depth), width, 1, True, True, apart=True)
    yield Memory("fifo", layer.fifo_beats, _beat_bits(layer), 1, True, False)
    for unit in requantizers(layer):
        for bits in unit.columns:
            yield Memory("column", unit.entries, bits, 1, False, True)


def _weights(layer: LinearConfig) -> Iterator[Memory]:
    if layer.constant_weights:
        return
    passes, _, steps, _ = layer.weight.shape
    depth = passes * steps
    style = "block" if layer.block_weights else "logic"
    for width, count in weight_words(layer):
        if count:
            yield Memory("weight", depth, width, count, False, True, style=style)


def _checks(layer: LinearConfig) -> Iterator[Memory]:
    if not layer.modulus:
        return
    depth, width = check_row(layer)
    if depth:
        yield Memory("checker", depth, width, 1, False, True)
    for depth, width in check_store(layer):  # two read ports, each with a copy
        yield Memory("bank", depth, width, 2, True, False, apart=True)


def weight_words(layer: LinearConfig) -> list[tuple[int, int]]:
    """(bits, count) of the weight words of lone lanes, of pairs and of replicas, with codes."""
    width, paired = (
        layer.simd * bits for bits in (layer.weight_bits, layer.weight_bits + high_bits(layer))
    )
    replicas = 3 * len(layer.replicated)
    if layer.weight_code == "none":
        return [(width, single_lanes(layer)), (paired, len(layer.pairs))]
    codes = [code_bits(layer.weight_code, bits) for bits in (width, paired)]
    alone = single_lanes(layer) - replicas
    return [(width + codes[0], alone), (paired + codes[1], len(layer.pairs)), (width, replicas)]


def place(layer: LayerConfig, family: Blocks) -> list[Placed]:
    """Each memory's cell."""
    found = []
    for memory in memories(layer):
        ram, cells, rows = family.memory(
            memory.depth,
            memory.width,
            written=memory.written,
            registered=memory.registered,
            resets=memory.resets,
            apart=memory.apart,
            style=memory.style,
        )
        found.append(Placed(memory, ram, cells, rows))
    return found


def products(layer: LayerConfig) -> Iterator[Product]:
    """Every multiplication that may take a DSP block."""
    if isinstance(layer, LinearConfig):
        act: Shape = (layer.act_bits, layer.act_signed)
        if not layer.multiplies or layer.multiplier == "shift":
            pass  # a bipolar operand chooses a sign; shift-adds are no products
        elif layer.constant_weights:
            yield from _constant_products(layer, act)
        elif layer.multiplier != "lut":
            yield from _lane_products(layer, act)
        for bits, signs, weight_bits, result, count in check_products(layer):
            yield Product("check", (bits, signs), (weight_bits, True), result, count)
    if isinstance(layer, JoinConfig):
        for operand, scale in zip(layer.operands, scales(layer), strict=False):
            if scale & (scale - 1):
                a, b = element(operand), const(scale)
                yield Product("rescale", a, b, multiply(a, b)[0], layer.out_lanes)
    if isinstance(layer, LinearConfig | PoolConfig | JoinConfig):
        for unit in requantizers(layer):
            if unit.constant is not None and not unit.constant & (unit.constant - 1):
                continue  # a shift
            for (a, b), bits in zip(unit.factors, unit.products, strict=True):
                yield Product("requantize", a, b, bits, 1)


def _lane_products(layer: LinearConfig, act: Shape) -> Iterator[Product]:
    """Those of single lanes, and one for each two of a pair."""
    if lanes := single_lanes(layer):
        weight: Shape = (layer.weight_bits, True)
        yield Product("lane", act, weight, layer.product_bits, lanes * layer.simd)
    if layer.pairs:
        half = half_bits(layer)
        weight = (half + high_bits(layer), True)
        yield Product("pair", act, weight, 2 * half, len(layer.pairs) * layer.simd)


def single_lanes(layer: LinearConfig) -> int:
    """Lanes with multipliers of their own, replicas among them."""
    return layer.pe + 2 * len(layer.replicated) - 2 * len(layer.pairs)


def dsps(found: Iterable[Product], family: Blocks) -> float:
    """DSP blocks of products; two small ones may share one."""
    if family.dsp is None:
        return 0
    return sum(family.dsp.blocks(p.a, p.b, p.bits) * p.count for p in found)


def _constant_products(layer: LinearConfig, act: Shape) -> Iterator[Product]:
    """Products by constants; powers of two are wiring, lanes share what is equal."""
    seen = set()
    for lane, row in enumerate(layer.weight.reshape(layer.pe, -1).tolist()):
        copies = 3 if lane in layer.replicated else 1
        for i, value in zip(layer.lane_elements(lane), row, strict=True):
            if (value >= 0 or act[1]) and not abs(value) & (abs(value) - 1):
                continue  # an unsigned element is multiplied by the whole two's complement
            if copies == 1 and (i, value) in seen:
                continue
            if copies == 1:
                seen.add((i, value))
            bits = max(value.bit_length(), (~value).bit_length()) + 1
            yield Product("constant", act, (bits, True), act[0] + bits, copies)
