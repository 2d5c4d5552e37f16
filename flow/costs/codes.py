"""LUTs of check codes and of comparisons behind the accumulators, in gates counted by hand.

No sampled design has them, so that nothing is fitted: a tree of exclusive ors, a sum of digits
modulo 3, the syndrome of a Hamming code and its decoder, each in look-up tables of 4 or 6 inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...hw.code_words import code_bits, mark_code
from ...hw.config import LayerConfig, WindowedConfig
from ...hw.join_config import JoinConfig
from ...hw.linear_config import LinearConfig
from ...hw.reduce_config import ArgMaxConfig, PoolConfig
from .blocks import weight_words
from .joins import STREAM_MARKS
from .registers import REPLICAS, Register

__all__ = ["guards"]

SECDED_SHARE = 0.6
"""Of a word's bits, those that an average check of its Hamming code covers; the parity has all."""


def guards(
    layer: LayerConfig, held: Sequence[Register], inputs: int
) -> Iterable[tuple[str, float]]:
    """Features of a layer's codes and guarded registers; `inputs` of a look-up table."""
    if coded := _streams(layer, inputs) + _weights(layer, inputs):
        yield "code_luts", coded
    bits = sum(register.total for register in held if register.role in _guarded(layer))
    if layer.post == "tmr":
        yield "vote_bits", bits // REPLICAS
    elif layer.compared:
        # Parity is made and compared; a twin is compared two or three bits a table.
        yield "code_luts", 2 * _tree(bits, inputs) if layer.post == "parity" else 2 * bits / inputs


def _guarded(layer: LayerConfig) -> tuple[str, ...]:
    """Roles of the registers that `post` protects; a drain register's share is left out."""
    if isinstance(layer, PoolConfig | ArgMaxConfig):
        return ("requant", "accumulator")
    return ("requant",)


def _streams(layer: LayerConfig, inputs: int) -> float:
    """Codes of what leaves, checks of what is read, and both for the marks in the FIFOs."""
    total = layer.out_lanes * _encoder(layer.stream, layer.out_bits, inputs)
    total += _marks(layer.stream, inputs)
    for port, (bits, lanes) in enumerate(zip(layer.element_bits, layer.in_lanes, strict=True)):
        kind = layer.in_code(port)
        read = layer.window.elements if isinstance(layer, WindowedConfig) else lanes
        total += read * _checker(kind, bits, inputs)
        total += _marks(kind, inputs) * isinstance(layer, JoinConfig)
    return total


def _marks(kind: str, inputs: int) -> float:
    kind = mark_code(kind)
    return _encoder(kind, STREAM_MARKS, inputs) + _checker(kind, STREAM_MARKS, inputs)


def _weights(layer: LayerConfig, inputs: int) -> float:
    """Checks of the weight words; the codes themselves are columns of the table."""
    if not isinstance(layer, LinearConfig) or layer.constant_weights:
        return 0.0
    kind, alone = layer.weight_code, weight_words(layer)[:2]
    if kind == "none":
        return 0.0
    size = {code_bits(kind, n) + n: n for n in range(1, 1 + max(width for width, _ in alone))}
    return sum(count * _checker(kind, size[width], inputs) for width, count in alone if count)


def _tree(bits: float, inputs: int) -> float:
    """An exclusive or of `bits` bits."""
    return max(0.0, bits - 1) / (inputs - 1)


def _encoder(kind: str, bits: int, inputs: int) -> float:
    match kind:
        case "none":
            return 0.0
        case "parity":
            return _tree(bits, inputs)
        case "residue":  # two tables of four inputs for every two digits of two bits
            return max(1.0, bits - 2) * (1.0 if inputs <= 4 else 0.7)
    return (code_bits(kind, bits) - 1) * _tree(SECDED_SHARE * bits, inputs) + _tree(bits, inputs)


def _checker(kind: str, bits: int, inputs: int) -> float:
    if kind == "none":
        return 0.0
    again = _encoder(kind, bits, inputs)
    if kind != "secded":
        return again + 1
    syndrome = code_bits(kind, bits)  # each bit flips where the syndrome names it
    return again + syndrome + bits * max(1.0, syndrome / (inputs - 1))
