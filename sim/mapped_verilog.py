"""A mapped netlist as plain Verilog that every engine can read: tables, gates and registers.

A flip-flop becomes a position of a variable that carries the name, role, layer, lane and replica of
the register it comes from. A look-up table becomes its INIT value shifted by an address; the mark
before it gives its number, by which lut_init.py finds it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..quant.errors import InputError
from ..quant.names import printable
from . import mapped_cells
from .lut_init import Lut, mark
from .mapped_cells import Bit, Cell, FlipFlop
from .mapped_sites import Layers, Names, Placement, place

__all__ = ["Mapped", "load"]

_CONSTANTS = {"VCC": "1'b1", "GND": "1'b0"}
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_A_LINE = 12  # names in a declaration

Json = dict[str, Any]
Control = tuple[Bit, int] | None


@dataclass(frozen=True)
class Mapped:
    """A flat mapped netlist: number of flip-flop bits, where they come from, its tables, and the
    whole as Verilog."""

    ff_bits: int
    placement: Placement
    luts: tuple[Lut, ...]
    verilog: str


def load(path: Path, top: str, names: Names) -> Mapped:
    """Read a flat netlist that Yosys wrote as JSON. InputError naming a cell without a model."""
    module = json.loads(path.read_text())["modules"][top]
    flip_flops, logic = [], []
    for name, entry in sorted(module["cells"].items()):
        cell = mapped_cells.parse(name, entry)
        found = mapped_cells.flip_flop(cell)
        if found is not None:
            flip_flops.append((cell, found))
        elif cell.type not in ("$scopeinfo", *_CONSTANTS):
            logic.append(cell)
    placement = place(module, flip_flops, names)
    sheet = _Sheet(module, placement)
    for cell in logic:
        mapped_cells.combinational(cell, sheet)
    sheet.registers([flip_flop for _, flip_flop in flip_flops])
    luts = sheet.luts(Layers.learn(names.registers))
    return Mapped(len(flip_flops), placement, luts, sheet.text(top))


class _Sheet:
    """Writes the Verilog; the models of the cells call its public methods."""

    def __init__(self, module: Json, placement: Placement) -> None:
        self.module, self.placement = module, placement
        self.wires: dict[int, list[str]] = defaultdict(list)  # width -> names
        self.assigns: list[str] = []
        self.variables: list[str] = []
        self.edges: dict[str, list[str]] = defaultdict(list)
        self.tables: list[tuple[Cell, str, int]] = []
        self.reads: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self.memories = 0
        self.names = self._names()

    def _names(self) -> dict[Bit, str]:
        names: dict[Bit, str] = {"0": "1'b0", "1": "1'b1", "x": "1'b0", "z": "1'b0"}
        for port, entry in self.module["ports"].items():
            if entry["direction"] == "input":
                name, bits = _identifier(port), entry["bits"]
                names |= {b: f"{name}[{i}]" if len(bits) > 1 else name for i, b in enumerate(bits)}
        for cell in self.module["cells"].values():
            if cell["type"] in _CONSTANTS:
                (bits,) = cell["connections"].values()
                names[bits[0]] = _CONSTANTS[cell["type"]]
        for net, (number, position) in self.placement.where.items():
            names[net] = f"ff_{number}[{position}]"
        return names

    def net(self, bit: Bit) -> str:
        return self.names.get(bit) or f"n{bit}"

    def drive(self, bit: Bit, expression: str) -> str:
        return (
            self._assign(f"n{bit}", expression) if isinstance(bit, int) else self.wire(expression)
        )

    def wire(self, expression: str, width: int = 1) -> str:
        return self._assign(f"t{len(self.assigns)}", expression, width)

    def _assign(self, name: str, expression: str, width: int = 1) -> str:
        self.wires[width].append(name)
        self.assigns.append(f"assign {name} = {expression};")
        return name

    def table(self, cell: Cell, parameter: str, inputs: int) -> int:
        self.tables.append((cell, parameter, inputs))
        return len(self.tables) - 1

    def read(self, table: int, inputs: tuple[Bit, ...]) -> str:
        cell, parameter, size = self.tables[table]
        nets = [self.net(bit) for bit in inputs]
        constants = {i: int(net == "1'b1") << i for i, net in enumerate(nets) if "'" in net}
        self.reads[table].append((sum(1 << i for i in constants), sum(constants.values())))
        value = f"{1 << size}'h{cell.number(parameter):x}"
        return f"{mark(table)}{value} >> {{{', '.join(reversed(nets))}}}"

    def memory(self, cell: Cell, width: int, contents: list[int]) -> str:
        name = f"ram_{self.memories}"
        self.memories += 1
        self.variables.append(f"reg [{width - 1}:0] {name} [0:{len(contents) - 1}];")
        if any(contents):
            words = " ".join(f"{name}[{i}] = {width}'h{w:x};" for i, w in enumerate(contents))
            self.variables.append(f"initial begin {words} end")
        return name

    def clocked(self, clock: Bit, statement: str) -> None:
        self.edges[f"posedge {self.net(clock)}"].append(statement)

    def luts(self, layers: Layers) -> tuple[Lut, ...]:
        """The tables, by number."""
        found = []
        for number, (cell, parameter, inputs) in enumerate(self.tables):
            name = cell.name if parameter in ("INIT", "LUT_INIT") else f"{cell.name}.{parameter}"
            layer, reads = layers.find(cell.name), tuple(self.reads[number])
            found.append(Lut(name, layer, inputs, cell.number(parameter), reads))
        return tuple(found)

    def registers(self, flip_flops: Iterable[FlipFlop]) -> None:
        """Declare the variables and write their next values, bits with equal controls at once."""
        inits = [0] * len(self.placement.variables)
        groups: dict[tuple[Any, ...], list[FlipFlop]] = defaultdict(list)
        for f in flip_flops:
            number, position = self.placement.where[f.q]
            inits[number] |= f.init << position
            key = (number, f.clock, f.enable, f.reset, f.asynchronous, f.enable_first)
            groups[key].append(f)
        for number, variable in enumerate(self.placement.variables):
            values = {"tercet_name": variable.name, "hdlname": f"ff_{number}"}
            values |= {k: getattr(variable, k) for k in ("role", "layer", "lane", "replica")}
            given = ", ".join(f"{k} = {_quoted(v)}" for k, v in values.items() if v is not None)
            init = f"{variable.width}'h{inits[number]:x}"
            self.variables.append(
                f"(* {given} *) reg [{variable.width - 1}:0] ff_{number} = {init};"
            )
        for group in groups.values():
            group.sort(key=lambda f: self.placement.where[f.q][1], reverse=True)
            self._group(group)

    def _group(self, group: list[FlipFlop]) -> None:
        """Flip-flops of one variable with the same controls, highest position first."""
        one = group[0]
        state = "{" + ", ".join(self.net(f.q) for f in group) + "}"
        data = "{" + ", ".join(f"{'~' * f.invert}{self.net(f.d)}" for f in group) + "}"
        load = f"{state} <= {data};"
        held = f"if ({self._level(one.enable)}) {load}" if one.enable else load
        if one.reset is None:
            self.clocked(one.clock, held)
            return
        values = f"{len(group)}'b{''.join(str(f.value) for f in group)}"
        clear = f"if ({self._level(one.reset)}) {state} <= {values};"
        if one.asynchronous:
            edge = "posedge" if one.reset[1] else "negedge"
            reset, clock = self.net(one.reset[0]), self.net(one.clock)
            both = f"always @(posedge {clock} or {edge} {reset})"
            self.variables.append(f"{both} {clear} else {held}")
        elif one.enable and one.enable_first:
            level = self._level(one.enable)
            self.clocked(one.clock, f"if ({level}) begin {clear} else {load} end")
        else:
            self.clocked(one.clock, f"{clear} else {held}")

    def _level(self, control: Control) -> str:
        assert control is not None
        return ("" if control[1] else "!") + self.net(control[0])

    def text(self, top: str) -> str:
        """The module. InputError if something reads a net that nothing drives."""
        self._check_driven()
        ports = self.module["ports"]
        lines = [f"module {top}({', '.join(_port(*item) for item in ports.items())});"]
        for width, names in sorted(self.wires.items()):
            size = f"[{width - 1}:0] " if width > 1 else ""
            parts = (names[i : i + _A_LINE] for i in range(0, len(names), _A_LINE))
            lines += [f"  wire {size}{', '.join(part)};" for part in parts]
        registers = [line for line in self.variables if not line.startswith("always")]
        processes = [line for line in self.variables if line.startswith("always")]
        lines += [f"  {line}" for line in (*registers, *self.assigns, *processes)]
        for edge, statements in self.edges.items():
            lines += [f"  always @({edge}) begin", *(f"    {s}" for s in statements), "  end"]
        for port, entry in ports.items():
            if entry["direction"] == "output":
                value = ", ".join(self.net(bit) for bit in reversed(entry["bits"]))
                lines.append(f"  assign {_identifier(port)} = {{{value}}};")
        return "\n".join([*lines, "endmodule", ""])

    def _check_driven(self) -> None:
        driven = {name for names in self.wires.values() for name in names}
        for name, entry in self.module["cells"].items():
            for port, bits in entry["connections"].items():
                for bit in bits if entry["port_directions"][port] == "input" else ():
                    if bit not in self.names and f"n{bit}" not in driven:
                        where = f"cell {printable(name)} ({printable(entry['type'])})"
                        raise InputError(f"netlist: {where}: nothing drives {printable(port)}")


def _identifier(name: str) -> str:
    """A name as Verilog has it, escaped if need be."""
    return name if _PLAIN.fullmatch(name) else f"\\{name} "


def _port(name: str, entry: Json) -> str:
    width = len(entry["bits"])
    return f"{entry['direction']} {f'[{width - 1}:0] ' if width > 1 else ''}{_identifier(name)}"


def _quoted(value: object) -> str:
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
