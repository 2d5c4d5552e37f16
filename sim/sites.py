"""Every fault site of a design: flip-flop bits with their roles, and memories.

A flip-flop bit belongs to the variable (wire) that carries a `role` attribute, else to the
shortest public name connected to it. The enumeration is complete or fails: any cell that holds
state and is no flip-flop on the one rising clock edge is an error (state_cells.py), and the bits
are counted once more by Yosys's own statistics.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..quant.errors import ClaimError, InputError
from ..quant.names import printable
from . import netlist, state_cells

__all__ = [
    "Bit",
    "MemorySite",
    "Register",
    "enumerate",
    "enumerate_memories",
    "from_netlist",
    "memories",
]


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
    """A memory: name, word width in bits, number of words, whether the design writes it."""

    name: str
    width: int
    depth: int
    written: bool


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
    """All memories of module `top`, by name."""
    return memories(netlist.canonical(verilog, top))


def from_netlist(source: netlist.Netlist) -> list[Register]:
    """The registers of a canonical netlist, by name."""
    cells = state_cells.flip_flops(source.clean)
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
    _check_complete(registers, memories(source), source)
    return registers


def memories(source: netlist.Netlist) -> list[MemorySite]:
    """The memories of a canonical netlist, by name, read-only ones included."""
    found = state_cells.memories(source.clean)
    return [MemorySite(name, *found[name]) for name in sorted(found)]


def _check_complete(
    registers: list[Register], found: list[MemorySite], source: netlist.Netlist
) -> None:
    """ClaimError unless Yosys's own statistics of the netlist count the same bits."""
    counts = {
        "flip-flop": (sum(r.width for r in registers), source.ff_bits),
        "memory": (sum(m.width * m.depth for m in found), source.memory_bits),
    }
    distinct = {(bit.cell, bit.index) for r in registers for bit in r.bits}
    if len(distinct) != counts["flip-flop"][0]:
        raise ClaimError("fault sites: a flip-flop bit is listed twice")
    for what, (listed, counted) in counts.items():
        if listed != counted:
            raise ClaimError(f"fault sites: {listed} {what} bits listed, the netlist has {counted}")


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
        shown = attributes.get(netlist.NAME_ATTRIBUTE, name)
        wire = _Wire(shown, not entry["hide_name"], state, attributes)
        for position, net in _indexed(entry["bits"]):
            nets[net].append((wire, position))
    return nets
