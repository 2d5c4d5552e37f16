"""Which register of the Verilog each flip-flop of a mapped netlist is.

Synthesis keeps the names of nets: a mapped flip-flop is the register whose name its output (or the
inverse of its output) still carries. What it merged, removed or moved is counted.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import netlist, sites
from .mapped_cells import Bit, Cell, FlipFlop, parse

__all__ = ["Layers", "Names", "Placement", "Variable", "place", "read_names"]

Json = dict[str, Any]
_WORD = re.compile(r"(?P<memory>.+)\[\d+\]")
_LUTS = frozenset(["SB_LUT4", *(f"LUT{i}" for i in range(1, 7))])
_OUTPUTS = ("O", "Z", "F")
_SHOWN = 10  # merged registers in a report


@dataclass(frozen=True)
class Names:
    """The registers of the Verilog; `owner` maps (wire, position) to (register, bit) for every
    public name of every flip-flop bit; `memories` are the names of written memories."""

    registers: tuple[sites.Register, ...]
    owner: Mapping[tuple[str, int], tuple[int, int]]
    memories: frozenset[str]


@dataclass
class Variable:
    """A register of the mapped netlist, of `width` positions, of which some may be gone."""

    name: str
    role: str
    layer: str | None
    lane: int | None = None
    replica: int | None = None
    width: int = 0


@dataclass(frozen=True)
class Placement:
    """`where` maps a flip-flop's output net to (variable, position); `report` counts."""

    variables: tuple[Variable, ...]
    where: Mapping[Bit, tuple[int, int]]
    report: Json


@dataclass
class Layers:
    """The layer that a hierarchical name belongs to: that of the registers beside it."""

    of: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    @classmethod
    def learn(cls, registers: Iterable[sites.Register]) -> Layers:
        """From the registers that know theirs."""
        layers = cls()
        for register in registers:
            parts = register.name.split(".")
            for depth in range(1, len(parts)):
                if register.layer:
                    layers.of[".".join(parts[:depth])].add(register.layer)
        return layers

    def find(self, name: str) -> str | None:
        """The layer of the longest path above `name` whose registers agree; None if none does."""
        parts = name.split(".")
        for depth in range(len(parts) - 1, 0, -1):
            known = self.of.get(".".join(parts[:depth]), set())
            if len(known) == 1:
                return next(iter(known))
        return None


def read_names(verilog: Path, top: str) -> Names:
    """The registers of a Verilog file with all their names; InputError as `sites.enumerate`."""
    source = netlist.canonical(verilog, top)
    registers = sites.from_netlist(source)
    named, clean = _names(source.named), _names(source.clean)
    owner: dict[tuple[str, int], tuple[int, int]] = {}
    for number, register in enumerate(registers):
        for index, bit in enumerate(register.bits):
            # The registers of memory reads are cells of the clean netlist only.
            first = bit.cell in source.named["cells"]
            module, nets = (source.named, named) if first else (source.clean, clean)
            net = module["cells"][bit.cell]["connections"]["Q"][bit.index]
            for spot in nets.get(net, ()):
                owner.setdefault(spot, (number, index))
    memories = {cell["parameters"]["MEMID"] for cell in source.clean["cells"].values()
                if cell["type"] == "$memwr_v2"}  # fmt: skip
    return Names(tuple(registers), owner, frozenset(m.lstrip("\\").rstrip() for m in memories))


def place(module: Json, cells: Sequence[tuple[Cell, FlipFlop]], names: Names) -> Placement:
    """Name every flip-flop of a flat mapped module (Yosys JSON).

    `report`: {ff_bits, rtl_ff_bits, kept, inverted, merged, duplicated, removed, memory, mapped,
    merged_registers, unmatched}. `kept` bits of the Verilog are stored by a flip-flop, `inverted`
    of them as their inverse; `merged` share a flip-flop with another bit, `duplicated` flip-flops
    store one that another stores already; `removed` have none: constant, or made of other bits.
    `memory` flip-flops hold memory words, `mapped` ones synthesis made. `unmatched` names every
    bit of the Verilog that has no flip-flop just to itself: {merged, duplicated, removed}.
    """
    placer = _Placer(module, names)
    owned = [placer.put(cell, flip_flop) for cell, flip_flop in cells]
    groups = [sorted(owners) for owners in owned if len(owners) > 1]
    every = {(n, bit) for n, r in enumerate(names.registers) for bit in range(r.width)}
    total, found = len(every), set().union(*owned)
    kept, shared = len(found), set().union(*groups)
    roles = Counter(placer.variables[name].role for name, _ in placer.spots.values())
    report = {
        "ff_bits": len(cells),
        "rtl_ff_bits": total,
        "kept": kept,
        "inverted": placer.inverted,
        "merged": sum(len(group) - 1 for group in groups),
        "duplicated": placer.duplicated,
        "removed": total - kept,
        "memory": roles["memory"],
        "mapped": roles["mapped"],
        "merged_registers": [[placer.title(one) for one in group] for group in groups[:_SHOWN]],
        "unmatched": {
            "merged": placer.titles(shared),
            "duplicated": placer.titles(placer.copied),
            "removed": placer.titles(every - found),
        },
    }
    number = {name: i for i, name in enumerate(placer.variables)}
    where = {net: (number[name], position) for net, (name, position) in placer.spots.items()}
    return Placement(tuple(placer.variables.values()), where, report)


def _names(module: Json) -> dict[Bit, list[tuple[str, int]]]:
    """Net -> its public names, each with a position."""
    nets: dict[Bit, list[tuple[str, int]]] = defaultdict(list)
    for name, entry in module["netnames"].items():
        if not entry["hide_name"]:
            for position, bit in enumerate(entry["bits"]):
                nets[bit].append((name, position))
    return nets


class _Placer:
    """Finds a name for one flip-flop after the other."""

    def __init__(self, module: Json, names: Names) -> None:
        self.names, self.layers = names, Layers.learn(names.registers)
        self.nets = _names(module)
        self.inverses = _inverses(module)
        self.variables: dict[str, Variable] = {}
        self.spots: dict[Bit, tuple[str, int]] = {}
        self.taken: set[tuple[str, int]] = set()
        self.inverted = self.duplicated = 0
        self.copied: set[tuple[int, int]] = set()
        """Bits that more than one flip-flop stores."""

    def put(self, cell: Cell, flip_flop: FlipFlop) -> set[tuple[int, int]]:
        """Place one flip-flop; returns the register bits of the Verilog that it stores."""
        net = flip_flop.q
        owners = self._owners([net])
        if not owners:
            owners = self._owners(self.inverses.get(net, []))
            self.inverted += len(owners)
        if owners:
            number, index = min(owners)
            found = self.names.registers[number]
            kind = (found.role or "other", found.layer, found.lane, found.replica)
            if self._store(net, Variable(found.name, *kind), index):
                self.copied |= owners
        else:
            self._store(net, *self._unknown(cell, net))
        return owners

    def title(self, owner: tuple[int, int]) -> str:
        """Name and position of a register bit."""
        return f"{self.names.registers[owner[0]].name}[{owner[1]}]"

    def titles(self, owners: Iterable[tuple[int, int]]) -> list[str]:
        """Names and positions, in their order."""
        return [self.title(owner) for owner in sorted(owners)]

    def _owners(self, nets: Iterable[Bit]) -> set[tuple[int, int]]:
        spots = (spot for net in nets for spot in self.nets.get(net, ()))
        return {self.names.owner[spot] for spot in spots if spot in self.names.owner}

    def _unknown(self, cell: Cell, net: Bit) -> tuple[Variable, int]:
        """The word of a memory, or something that synthesis made."""
        for name, position in self.nets.get(net, ()):
            match = _WORD.fullmatch(name)
            if match and match["memory"] in self.names.memories:
                return Variable(name, "memory", self.layers.find(name)), position
        spots = sorted(self.nets.get(net, ()), key=lambda spot: (len(spot[0]), spot))
        name, position = spots[0] if spots else (cell.name, 0)
        return Variable(name, "mapped", self.layers.find(name)), position

    def _store(self, net: Bit, variable: Variable, position: int) -> bool:
        """Two flip-flops of one register bit are two registers: the second gets its own name.
        Returns whether it is a second one."""
        second = (variable.name, position) in self.taken
        if second:
            variable.name = f"{variable.name}__{net}"
            self.duplicated += variable.role not in ("memory", "mapped")
        self.taken.add((variable.name, position))
        known = self.variables.setdefault(variable.name, variable)
        known.width = max(known.width, position + 1)
        self.spots[net] = variable.name, position
        return second


def _inverses(module: Json) -> dict[Bit, list[Bit]]:
    """Net -> the nets that an inverter makes of it."""
    found: dict[Bit, list[Bit]] = defaultdict(list)
    for name, entry in module["cells"].items():
        cell = parse(name, entry)
        if cell.type == "INV":
            found[cell.bit("I")].append(cell.bit("O"))
        elif cell.type in _LUTS:
            nets = [(p, b[0]) for p, b in cell.ports.items() if p not in _OUTPUTS and b]
            variable = [(port, net) for port, net in nets if isinstance(net, int)]
            output = next(p for p in _OUTPUTS if p in cell.ports)
            if len(variable) == 1 and _inverts(cell, variable[0][0]):
                found[variable[0][1]].append(cell.bit(output))
    return found


def _inverts(cell: Cell, port: str) -> bool:
    """Whether a table with one connected input gives its inverse."""
    order = ("A", "B", "C", "D") if "Z" in cell.ports else tuple(f"I{i}" for i in range(6))
    fixed = sum((cell.bit(name) == "1") << i for i, name in enumerate(order))
    table = cell.number("LUT_INIT" if cell.type == "SB_LUT4" else "INIT")
    high = fixed | 1 << order.index(port)
    return (table >> fixed & 1, table >> high & 1) == (1, 0)
