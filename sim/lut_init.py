"""The configuration bits of a mapped netlist's look-up tables, and how the Verilog can flip them.

mapped_verilog.py puts a mark with its number before each table. Two forms of the same text flip a
bit of a table, and share nothing: in the *selecting* form a register `tercet_config` holds the
number of one configuration bit, whose value is inverted as long as it stands there (0: none); in
the *writable* form chosen tables are memories of one word, `tercet_init_N`, whose bits are targets
like those of any memory.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..quant.ir import IntArray

__all__ = ["SELECTOR", "Lut", "Luts", "mark", "variable"]

SELECTOR = "tercet_config"
_TABLE = re.compile(r"/\*T(\d+)\*/(\d+'h[0-9a-f]+) >> (\{[^{}]*\})")


def mark(table: int) -> str:
    """The comment before each place where a table is read."""
    return f"/*T{table}*/"


@dataclass(frozen=True)
class Lut:
    """The INIT value of a cell: `inputs` address bits, 2 ** `inputs` configuration bits.

    `reads` are the ways in which it is read: (mask, value) of the address bits that are constant.
    """

    name: str
    layer: str | None
    inputs: int
    init: int
    reads: tuple[tuple[int, int], ...]

    @property
    def bits(self) -> int:
        """Configuration bits."""
        return 1 << self.inputs

    def reachable(self, minterm: int) -> bool:
        """Whether the constants at the inputs leave this address possible."""
        return any(minterm & mask == value for mask, value in self.reads)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Lut:
        """As `vars` wrote it."""
        reads = tuple((int(mask), int(value)) for mask, value in row["reads"])
        return cls(row["name"], row["layer"], int(row["inputs"]), int(row["init"]), reads)


@dataclass(frozen=True)
class Luts:
    """All tables of a design; configuration bits are numbered table by table, minterm 0 first."""

    tables: tuple[Lut, ...]

    @functools.cached_property
    def first(self) -> IntArray:
        """Number [tables + 1] of the first configuration bit of each table."""
        return np.concatenate(([0], np.cumsum([lut.bits for lut in self.tables]))).astype(np.int64)

    @property
    def bits(self) -> int:
        """Configuration bits of the design."""
        return int(self.first[-1])

    @functools.cached_property
    def reachable(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Whether [bits] constants at the inputs leave the address of each bit possible."""
        flags = [lut.reachable(minterm) for lut in self.tables for minterm in range(lut.bits)]
        return np.array(flags, bool)

    def locate(self, bits: IntArray) -> tuple[IntArray, IntArray]:
        """Table [n] and minterm [n] of configuration bits [n]."""
        table = np.searchsorted(self.first, bits, side="right") - 1
        return table.astype(np.int64), np.asarray(bits - self.first[table], np.int64)

    @property
    def address_bits(self) -> int:
        """Inputs of the largest table."""
        return max((lut.inputs for lut in self.tables), default=0)

    @property
    def code_bits(self) -> int:
        """Width of the register that selects a configuration bit."""
        return len(self.tables).bit_length() + self.address_bits

    def codes(self, bits: IntArray) -> IntArray:
        """The value [n] of that register that inverts each of the configuration bits [n]."""
        table, minterm = self.locate(bits)
        return (table + 1) << self.address_bits | minterm

    def selecting(self, verilog: str, clock: str) -> str:
        """The netlist with the register SELECTOR, which starts at 0 and keeps its value."""
        width, high = self.code_bits, len(self.tables).bit_length()

        def place(match: re.Match[str]) -> str:
            number, value, address = int(match[1]), match[2], match[3]
            pad = self.address_bits - self.tables[number].inputs
            parts = [f"{high}'d{number + 1}", *([f"{pad}'d0"] if pad else []), address]
            return f"({value} >> {address}) ^ ({SELECTOR} == {{{', '.join(parts)}}})"

        register = f'  (* role = "config" *) reg [{width - 1}:0] {SELECTOR} = {width}\'d0;\n'
        register += f"  always @(posedge {clock}) {SELECTOR} <= {SELECTOR};\n"
        return _declared(_TABLE.sub(place, verilog), register)

    def writable(self, verilog: str, chosen: Collection[int]) -> str:
        """The netlist with the chosen tables as memories."""
        taken = frozenset(chosen)

        def place(match: re.Match[str]) -> str:
            number = int(match[1])
            return f"{variable(number)}_word[{match[3]}]" if number in taken else match[0]

        lines = []
        for number in sorted(taken):
            lut, name = self.tables[number], variable(number)
            word, value = f"[{lut.bits - 1}:0]", f"{lut.bits}'h{lut.init:x}"
            lines += [f"  reg {word} {name} [0:0];\n", f"  initial {name}[0] = {value};\n"]
            lines.append(f"  (* keep *) wire {word} {name}_word = {name}[0];\n")
        return _declared(_TABLE.sub(place, verilog), "".join(lines))


def variable(table: int) -> str:
    """The memory of a table in the writable form."""
    return f"tercet_init_{table}"


def _declared(verilog: str, text: str) -> str:
    """The text behind the module's header, which is the first line."""
    header, rest = verilog.split("\n", 1)
    return f"{header}\n{text}{rest}"
