"""Every fault site of a design: flip-flop bits with their roles, and written memories.

A flip-flop bit belongs to the variable (wire) that carries a `role` attribute, else to the
shortest public name connected to it. The enumeration is complete or fails: any cell that holds
state and is no flip-flop on the one rising clock edge is an error.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..quant.errors import InputError
from ..quant.names import printable
from . import netlist

__all__ = ["Bit", "MemorySite", "Register", "enumerate", "enumerate_memories", "from_netlist"]

_COMBINATIONAL = re.compile(
    r"""\$(not|pos|neg|buf|and|or|xor|xnor|reduce_(and|or|xor|xnor|bool)|logic_(not|and|or)|
    shl|shr|sshl|sshr|shift|shiftx|lt|le|eq|ne|eqx|nex|ge|gt|add|sub|mul|div|mod|divfloor|
    modfloor|pow|mux|pmux|bmux|demux|bwmux|bweqx|slice|concat|lut|sop|alu|macc|macc_v2|lcu|fa|
    memrd|memrd_v2|meminit|meminit_v2|scopeinfo|assert|assume|cover|live|fair|check|print|
    specify2|specify3|specrule|
    _(BUF|NOT|AND|NAND|OR|NOR|XOR|XNOR|ANDNOT|ORNOT|MUX|NMUX|AOI3|OAI3|AOI4|OAI4)_)""",
    re.VERBOSE,
)
_FLIP_FLOP = re.compile(r"\$(dff|dffe|sdff|sdffe|sdffce|adff|adffe)")


@dataclass(frozen=True)
class Bit:
    """One flip-flop bit: cell of the canonical netlist and position in it; the Verilog variable
    that holds it as a path of instance names and a name, and the bit's position there."""

    cell: str
    index: int
    path: tuple[str, ...]
    offset: int


@dataclass(frozen=True)
class Register:
    """Flip-flop bits that share one name; bit i of a fault is `bits[i]`.

    `aliases` are all public names that show the value or part of it, `name` among them.
    """

    name: str
    role: str | None
    layer: str | None
    lane: int | None
    replica: int | None
    aliases: tuple[str, ...]
    bits: tuple[Bit, ...]

    @property
    def width(self) -> int:
        """Number of flip-flop bits."""
        return len(self.bits)

    def to_json(self) -> dict[str, Any]:
        """The entry of manifest.json `sites.registers`."""
        keys = ("name", "width", "role", "layer", "lane", "replica")
        return {key: getattr(self, key) for key in keys}


@dataclass(frozen=True)
class MemorySite:
    """A memory that the design writes: name, word width in bits, number of words."""

    name: str
    width: int
    depth: int


@dataclass(frozen=True)
class _Wire:
    """A named net: its attributes, and whether a flip-flop drives it in its own module."""

    name: str
    public: bool
    state: bool
    attributes: dict[str, str]

    @property
    def path(self) -> tuple[str, ...]:
        name = self.attributes.get("hdlname")
        return tuple(name.split(" ")) if name else (self.name,)

    @property
    def order(self) -> tuple[bool, bool, bool, bool, int, str]:
        """Best name first; names with $ were made by a tool."""
        role, made = "role" not in self.attributes, "$" in self.name
        return role, not self.public, role or not self.state, made, len(self.name), self.name


def enumerate(verilog: Path, top: str, *, contents: bool = True) -> list[Register]:
    """All registers of module `top`, by name; InputError naming the cell that is unsupported.

    Without `contents` memories' contents are not read (`netlist.canonical`).
    """
    return from_netlist(netlist.canonical(verilog, top, contents=contents))


def enumerate_memories(verilog: Path, top: str) -> list[MemorySite]:
    """All memories of module `top` that the design writes, by name."""
    module = netlist.canonical(verilog, top).clean
    written = {
        _text(cell["parameters"]["MEMID"]).removeprefix("\\")
        for cell in module["cells"].values()
        if cell["type"] == "$memwr_v2"
    }
    memories = module.get("memories", {})
    return [MemorySite(n, memories[n]["width"], memories[n]["size"]) for n in sorted(written)]


def from_netlist(source: netlist.Netlist) -> list[Register]:
    """The registers of a canonical netlist, by name."""
    cells = _flip_flops(source.clean)
    owners: dict[str, list[tuple[int, Bit]]] = defaultdict(list)
    aliases: dict[str, set[str]] = defaultdict(set)
    wires: dict[str, _Wire] = {}
    named, clean = _nets(source.named), _nets(source.clean)
    for cell_name, cell in sorted(cells.items()):
        original = source.named["cells"].get(cell_name)
        nets = named if original else clean
        for index, net in _indexed((original or cell)["connections"]["Q"]):
            found = sorted(nets[net], key=lambda pair: (pair[0].order, pair[1]))
            wire, offset = found[0]
            state, place = next((p for p in found if p[0].state), found[0])
            owners[wire.name].append((offset, Bit(cell_name, index, state.path, place)))
            aliases[wire.name] |= {other.name for other, _ in found if other.public}
            wires[wire.name] = wire
    registers = [_register(wires[n], aliases[n], owners[n]) for n in sorted(owners)]
    if sum(r.width for r in registers) != sum(len(c["connections"]["Q"]) for c in cells.values()):
        raise AssertionError("a flip-flop bit was lost or counted twice")
    return registers


def _indexed(bits: list[int]) -> list[tuple[int, int]]:
    return list(zip(range(len(bits)), bits, strict=True))


def _register(wire: _Wire, aliases: set[str], bits: list[tuple[int, Bit]]) -> Register:
    attributes = wire.attributes
    return Register(
        name=wire.name,
        role=attributes.get("role"),
        layer=attributes.get("layer"),
        lane=_integer(wire, "lane"),
        replica=_integer(wire, "replica"),
        aliases=tuple(sorted(aliases | {wire.name})),
        bits=tuple(bit for _, bit in sorted(bits, key=lambda pair: pair[0])),
    )


def _integer(wire: _Wire, key: str) -> int | None:
    value = wire.attributes.get(key)
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise InputError(f"{printable(wire.name)}: attribute {key} must be a decimal number")
    return int(value)


def _text(value: str) -> str:
    """A parameter or attribute of Yosys JSON: a string of 0 and 1 gets a blank, integers are
    strings of 32 binary digits."""
    if re.fullmatch(r"[01]{32,}", value):
        return str(int(value, 2))
    return value[:-1] if re.fullmatch(r"[01xz]* +", value) else value


def _nets(module: dict[str, Any]) -> dict[int, list[tuple[_Wire, int]]]:
    """Net number -> every (wire, position) that is connected to it."""
    nets: dict[int, list[tuple[_Wire, int]]] = defaultdict(list)
    for name, entry in module["netnames"].items():
        attributes = {key: _text(value) for key, value in entry["attributes"].items()}
        state = attributes.get(netlist.STATE_ATTRIBUTE) == "1"
        wire = _Wire(name, not entry["hide_name"], state, attributes)
        for position, net in _indexed(entry["bits"]):
            nets[net].append((wire, position))
    return nets


def _flip_flops(module: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The flip-flops by cell name, after the proof that nothing else holds state."""
    inputs = {
        port["bits"][0]: name
        for name, port in module["ports"].items()
        if port["direction"] == "input" and len(port["bits"]) == 1
    }
    clocks: dict[str, str] = {}
    found = {}
    for name, cell in module["cells"].items():
        kind, where = cell["type"], f"cell {printable(name)} ({printable(cell['type'])})"
        if _FLIP_FLOP.fullmatch(kind):
            found[name] = cell
            _check_clock(cell, where, inputs, clocks)
            _check_reset(cell, where, inputs)
        elif kind == "$memwr_v2":
            if not _flag(cell, "CLK_ENABLE"):
                raise InputError(f"{where}: memory written without a clock; register the write")
            _check_clock(cell, where, inputs, clocks)
        elif kind in ("$memrd", "$memrd_v2") and _flag(cell, "CLK_ENABLE"):
            raise InputError(f"{where}: clocked memory read; use a register after the read")
        elif not _COMBINATIONAL.fullmatch(kind):
            raise InputError(f"{where}: holds state or is unknown; only flip-flops are supported")
    return found


def _flag(cell: dict[str, Any], parameter: str) -> bool:
    return int(cell["parameters"][parameter], 2) != 0


def _check_clock(
    cell: dict[str, Any], where: str, inputs: dict[int, str], clocks: dict[str, str]
) -> None:
    clock = inputs.get(cell["connections"]["CLK"][0])
    if clock is None:
        raise InputError(f"{where}: its clock is no input of the top module; use one plain clock")
    if not _flag(cell, "CLK_POLARITY"):
        raise InputError(f"{where}: clocked by the falling edge; use the rising edge")
    other = next(iter(clocks), clock)
    clocks.setdefault(clock, where)
    if clock != other:
        raise InputError(f"{where}: second clock {printable(clock)}; only one clock is supported")


def _check_reset(cell: dict[str, Any], where: str, inputs: dict[int, str]) -> None:
    reset = cell["connections"].get("ARST")
    if reset is not None and reset[0] not in inputs:
        raise InputError(f"{where}: asynchronous reset made inside; use a synchronous one")
