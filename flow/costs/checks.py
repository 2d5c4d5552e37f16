"""What a layer's checksum unit costs, by closed form: registers, memories, logic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import ceil

from ...hw.checksum_config import FilterCheck, InputCheck
from ...hw.config import CHECK_CYCLES, clog2
from ...hw.linear_config import LinearConfig
from .columns import bits_of, distinct
from .registers import Register

__all__ = [
    "amounts",
    "check_ffs",
    "check_products",
    "check_row",
    "check_store",
    "lookups",
    "merged",
]

SIX_INPUTS = 0.85
"""LUTs of six inputs for one of four, in logic modulo 3."""


def check_ffs(layer: LinearConfig) -> Iterator[Register]:
    """Registers of the checksum unit and of its verdict on the way to the FIFO."""
    if layer.by_frame:
        yield from _frame(layer, layer.input_check)
        return
    yield from _filter(layer, layer.filter_check)
    waits = max(0, layer.requantize_cycles - CHECK_CYCLES)
    role = "control" if layer.retry else "checker"
    yield Register("commit", role, 1, CHECK_CYCLES + waits)
    yield Register("verdict", "checker", waits)


def _filter(layer: LinearConfig, check: FilterCheck) -> Iterator[Register]:
    ranks = 1 + len(check.sums)
    if check.words > 1:
        yield Register("address", "checker", clog2(check.words))
        yield Register("row", "checker", check.row_bits + check.marked)
    if check.reduces:
        yield Register("issue", "checker", 1 + (check.words > 1))
        yield Register("residue", "checker", check.sum_bits, len(check.used))
        if layer.retry and len(layer.turns) > 1:
            yield Register("again", "checker", 1 + clog2(len(layer.turns)))
    yield Register("valid", "checker", 2 * bool(check.used or check.biased or check.marked))
    yield Register("product", "checker", check.product_bits, check.terms)
    yield Register("sum", "checker", check.sum_bits, sum(check.sums) + 2 + check.held)
    yield Register("bias", "checker", check.biased * check.bias_bits, ranks)
    yield Register("first", "checker", check.marked, ranks)
    yield Register("drain", "checker", 2)
    yield Register("drained", "checker", check.part_bits, check.parts)


def _frame(layer: LinearConfig, check: InputCheck) -> Iterator[Register]:
    yield Register("marks", "checker", 9)
    yield Register("position", "checker", _count(len(check.places)))
    yield Register("results", "checker", 3 + _count(check.results))
    word = check.result_bits if check.modulus else layer.acc_bits
    yield Register("drained", "checker", word, layer.out_lanes)
    counts = (check.parts, layer.steps, layer.out_lanes, check.results)
    yield Register("count", "checker", sum(map(_count, counts)))
    yield Register("late", "checker", _count(layer.out_lanes) + _count(check.results))
    yield Register("address", "checker", clog2(check.macs // check.parallel))
    yield Register("weights", "checker", check.weight_bits, check.parallel)
    yield Register("operand", "checker", check.element_bits, check.parallel)
    yield Register("product", "checker", check.result_bits, check.parallel + 2)
    yield Register("walk", "checker", 4 + 4 + 4 + 3 + 2)


def _count(states: int) -> int:
    """Bits of a counter; none where there is nothing to count."""
    return clog2(states) if states > 1 else 0


def check_row(layer: LinearConfig) -> tuple[int, int]:
    """(words, bits) of the memory whose word goes to a register; no words: constants."""
    if layer.by_frame:
        found = layer.input_check
        return found.macs // found.parallel, found.weight_bits * found.parallel
    check = layer.filter_check
    return (check.words, check.row_bits + check.marked) if check.words > 1 else (0, 0)


def check_store(layer: LinearConfig) -> list[tuple[int, int]]:
    """(words, bits) of the memories that are written: the sums of the input form."""
    if not layer.by_frame:
        return []
    check = layer.input_check
    return [
        (2 << (check.words - 1).bit_length(), check.element_bits * layer.elements),
        (2 << (check.results - 1).bit_length(), check.result_bits * layer.out_lanes),
    ]


def check_products(layer: LinearConfig) -> Iterator[tuple[int, bool, int, int, int]]:
    """Products that may take a DSP block: (bits of a, its sign, bits of b, of the result, count).

    Exact ones only; those of residues are tables.
    """
    if layer.modulus != "exact":
        return
    if layer.by_frame:
        walk = layer.input_check
        if layer.multiplier in ("dsp", "dsp2"):
            yield walk.element_bits, True, walk.weight_bits, walk.result_bits, walk.parallel
        return
    check = layer.filter_check
    if layer.multiplier in ("dsp", "dsp2") or check.words == 1:
        signs = layer.act_signed or layer.act_bipolar
        bits = layer.act_bits + layer.act_bipolar
        yield bits, signs, check.weight_bits, check.product_bits, len(check.used)


def _columns(layer: LinearConfig) -> int:
    """Columns of the row memory that differ."""
    if layer.by_frame:
        check = layer.input_check
        return distinct(bits_of(check.weights, check.weight_bits))
    row = layer.filter_check
    return distinct(bits_of(row.rows, row.weight_bits)) + row.biased * row.bias_bits + row.marked


def merged(layer: LinearConfig, *, in_block: bool) -> int:
    """Registers that synthesis takes away: marks that repeat the sequencer's, equal columns."""
    if not layer.modulus:
        return 0
    words, bits = check_row(layer)
    equal = bits - _columns(layer) if words and not in_block else 0
    if layer.by_frame:
        return equal + 2 * (layer.control != "tmr")
    check = layer.filter_check
    marks = (2 + check.reduces) * (layer.control != "tmr")
    short = 0
    if check.reduces and not layer.act_signed:
        short = max(0, check.sum_bits - layer.act_bits) * len(check.used)
    return equal + marks + short


def lookups(layer: LinearConfig) -> tuple[int, int]:
    """Words and columns of the tables in logic, for the price of a ROM."""
    words, _ = check_row(layer)
    return words, _columns(layer) if words else 0


def amounts(layer: LinearConfig, changing: int, inputs: int) -> Iterable[tuple[str, float]]:
    """Logic of the unit, tables apart; `changing` bits of the row change from word to word."""
    modulo = layer.modulus if isinstance(layer.modulus, int) else None
    check = layer.filter_check
    used = layer.elements if layer.by_frame else len(check.used)
    if modulo == 3:
        scale = 1.0 if inputs == 4 else SIX_INPUTS
        yield "check_luts", scale * _tables(layer, used)
        return
    if modulo is None:
        yield from _exact(layer, used)
        return
    r = modulo.bit_length()
    act = r if layer.act_signed else min(r, layer.act_bits)
    yield "checksum", r
    yield "residue_bits", used * max(0, layer.act_bits - r * (not layer.act_signed))
    yield "drained_bits", layer.out_lanes * layer.acc_bits
    yield "residue_sums", (used + layer.out_lanes + 2) * r
    yield "residue_products", act * (r * layer.input_check.parallel if layer.by_frame else changing)


def _tables(layer: LinearConfig, used: int) -> float:
    """LUTs of four inputs modulo 3: two for each sum of two digits."""
    words = 2 * ceil(layer.acc_bits / 2) * layer.out_lanes
    elements = 2 * max(1, ceil(layer.act_bits / 2) - 1) * used
    if layer.by_frame:
        walk = layer.input_check
        counts = (walk.parts, layer.steps, layer.out_lanes, walk.results)
        bits = sum(map(_count, counts)) + clog2(walk.macs // walk.parallel)
        picked = walk.parallel * (4 + layer.elements)
        return words + 4 * layer.out_lanes + elements + 4 * used + picked + 2 * bits + 20
    check = layer.filter_check
    multiplied = 2 * used * (check.words > 1)
    counter = 2 * clog2(check.words) if check.words > 1 else 0
    summed = 2 * (used + check.biased + check.parts)
    return words + elements + multiplied + summed + counter + 6


def _exact(layer: LinearConfig, used: int) -> Iterable[tuple[str, float]]:
    """Sums in full width; products out of LUTs where the layer's are."""
    check = layer.input_check if layer.by_frame else layer.filter_check
    if isinstance(check, InputCheck):
        size, terms = check.result_bits, check.parallel
        yield "sum_bits", used * check.element_bits + layer.out_lanes * size
    else:
        size, terms = check.sum_bits, used
    yield "acc_bits", 2 * size
    yield "sum_bits", (terms + layer.out_lanes) * size
    if not any(check_products(layer)):
        yield "multiplier_rows", terms * check.weight_bits * layer.act_bits
