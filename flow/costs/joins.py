"""What Add, Concat, Pad and forks are made of: registers, FIFOs, products, adders."""

from __future__ import annotations

from collections.abc import Iterator

from ...hw.code_words import code_bits, mark_code
from ...hw.config import clog2, requantize_cycles
from ...hw.join_config import AddConfig, ConcatConfig, JoinConfig, MergeConfig, Operand, PadConfig
from .registers import ALARM_BITS, Register, posted, replicated
from .shapes import Shape, const, multiply

__all__ = ["STREAM_MARKS", "element", "fork_registers", "join_registers", "scales", "terms"]

STREAM_MARKS = 3
"""Bits of a beat beside its data: first, last, err."""

OPERAND_REGISTERS = 3
"""Control registers of an operand's FIFO: head, tail, full."""


def join_registers(layer: JoinConfig) -> Iterator[Register]:
    """Every register of a join but those of its requantisers; no converters."""
    for port, operand in enumerate(layer.operands):
        bits = clog2(1 << clog2(operand.depth)) + 1
        yield Register("pointer", "control", bits, 2)
        yield Register("full", "control", 1)
        word = operand.lanes * layer.operand_bits[port]
        marks = STREAM_MARKS + code_bits(mark_code(layer.in_code(port)), STREAM_MARKS)
        yield Register("held", "activation", word + marks)
        yield Register("element", "activation", word)
    yield Register("used", "control", layer.fifo_beats.bit_length())
    yield Register("pointer", "control", clog2(layer.fifo_beats) + 1, 2)
    counters = _counters(layer)
    for bits in counters:
        yield Register("count", "control", bits)
    takes = 0 if isinstance(layer, AddConfig | MergeConfig) else len(layer.operands)
    if isinstance(layer, PadConfig) and layer.delayed:
        takes += 1
        size = layer.out_bits + layer.out_code_bits
        yield from posted([Register("before", "activation", layer.delayed * size)], layer.post)
    ranks = layer.function_cycles + 1
    yield Register("marks", "control", (4 + takes) * ranks)
    yield Register("err_frame", "control", 1)
    found = [Register("product", "requant", shape[0], layer.out_lanes) for shape in terms(layer)]
    found += [Register("wait", "activation", bits, cycles) for bits, cycles in _waits(layer)]
    yield from posted(found, layer.post)
    if layer.checked:
        own = 1 + 2 + len(counters) + ranks + 1  # used, pointers, counters, marks, err_frame
        yield Register("parity", "checker", own + OPERAND_REGISTERS * len(layer.operands))
    codes = [layer.in_code(port) for port in range(len(layer.operands))]
    alarms = layer.alarmed + sum(layer.checked or code != "none" for code in codes)
    yield Register("alarm", "checker", ALARM_BITS, alarms)


def fork_registers(readers: int, control: str) -> Iterator[Register]:
    """Registers of the fork behind a layer that several operands read."""
    yield from replicated(_fork_registers(readers, control), control)


def _fork_registers(readers: int, control: str) -> Iterator[Register]:
    if readers > 1:
        yield Register("taken", "control", 1, readers)
        if control == "parity":
            yield Register("parity", "checker", readers)
            yield Register("alarm", "checker", ALARM_BITS)


def _counters(layer: JoinConfig) -> list[int]:
    """Bits of the counters that find a word's place in the frame."""
    match layer:
        case AddConfig() | MergeConfig():
            return [1]
        case ConcatConfig():
            return [clog2(max(2, layer.words_per_pixel)), 1]
    assert isinstance(layer, PadConfig)
    return [clog2(max(2, n)) for n in (layer.words_per_pixel, layer.width, layer.height)]


def element(operand: Operand) -> Shape:
    """Shape of one lane's value."""
    return (2, True) if operand.bipolar else (operand.bits, operand.signed)


def scales(layer: JoinConfig) -> tuple[int, ...]:
    """Multipliers of an Add's operands; other joins have none."""
    return layer.multipliers if isinstance(layer, AddConfig) else ()


def terms(layer: JoinConfig) -> list[Shape]:
    """Shapes of an Add's rescaled operands, registered in every lane."""
    pairs = zip(layer.operands, scales(layer), strict=False)
    return [multiply(element(operand), const(scale)) for operand, scale in pairs]


def _waits(layer: JoinConfig) -> list[tuple[int, int]]:
    """(bits, lanes * cycles) that an operand of a Concat waits for the slowest of them."""
    if not isinstance(layer, ConcatConfig | MergeConfig):
        return []
    pairs = zip(layer.operands, layer.requantize, strict=True)
    return [
        (
            (kind.out.bits if kind else operand.bits) + layer.out_code_bits,
            (layer.function_cycles - requantize_cycles(kind)) * operand.lanes,
        )
        for operand, kind in pairs
    ]
