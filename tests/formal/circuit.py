"""A component as a flat netlist whose every register is known, can be struck and can be read.

Amaranth writes RTLIL, Yosys flattens it without merging anything, and the JSON of the result is
rewritten here: `instrument` gives each register an observer port, datapath registers a free value
at the start, and the struck ones an XOR between what they hold and what reads it.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from amaranth.back import rtlil
from amaranth.hdl import Signal

from tercet.flow.yosys import run
from tercet.hw.site import Site

TAGS = "number", "variable", "has_reset"
"""Attributes of a register: how many were made before it, its own name, 1 if it is reset."""

LANE = re.compile(r"(lane_\d+)_r\d")
REPLICA = re.compile(r"\w+_r\d")

COMMANDS = (
    "hierarchy -check -top unit",
    "proc",
    "flatten",
    "memory_collect",
    "memory_nordff",
    "memory_map",
    "setundef -zero -undriven",  # words that a memory does not have
    "dffunmap",  # enables and resets become logic that reads the struck value too
    "write_json -noscopeinfo {name}.json",
)

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Register:
    """A register: `number` in the order in which it was made, hierarchical `path`, attributes.

    Control and memory words have a known start (`has_reset`), the datapath has none (`hw.site`).
    """

    number: int
    path: str
    width: int
    has_reset: bool
    attributes: dict[str, str]
    bits: tuple[int, ...] = dataclasses.field(repr=False)

    @property
    def role(self) -> str:
        """One of `hw.site.ROLES`."""
        return self.attributes["role"]

    @property
    def replica(self) -> int | None:
        """0..2 for one of three copies."""
        found = self.attributes.get("replica")
        return None if found is None else int(found)

    @property
    def key(self) -> str:
        """The path without what tells replicas apart: the same in a circuit without any."""
        *modules, name = self.path.split(".")
        modules = [LANE.sub(r"\1", part) for part in modules]
        return ".".join([*(part for part in modules if not REPLICA.fullmatch(part)), name])


@dataclasses.dataclass(frozen=True)
class Circuit:
    """A flat module: its JSON, registers, memory words, ports {name: (direction, width)}.

    Words are registers too, of role "memory", numbered behind the others.
    """

    module: Json
    registers: tuple[Register, ...]
    words: tuple[Register, ...]
    ports: dict[str, tuple[str, int]]

    @property
    def state(self) -> tuple[Register, ...]:
        """Everything that holds a bit from one cycle to the next."""
        return self.registers + self.words


@contextlib.contextmanager
def numbered() -> Iterator[list[Signal]]:
    """The registers that are made inside, in order; each carries its number as an attribute."""
    made: list[Signal] = []
    make = Site.register

    def record(self: Site, *args: Any, **options: Any) -> Signal:
        register = make(self, *args, **options)
        tags = len(made), register.name, int(not register.reset_less)
        register.attrs.update(zip(TAGS, (f"n{tag}" for tag in tags), strict=True))
        made.append(register)
        return register

    with mock.patch.object(Site, "register", record):
        yield made


def elaborate(component: Any, workdir: Path, name: str) -> Circuit:
    """Flatten `component`; AssertionError when a flip-flop has no name of `hw.site`."""
    with numbered():
        (workdir / f"{name}.il").write_text(rtlil.convert(component, name="unit", emit_src=False))
    commands = [f"read_rtlil {name}.il", *(c.format(name=name) for c in COMMANDS)]
    run(commands, workdir=workdir, name=name)
    module = json.loads((workdir / f"{name}.json").read_text())["modules"]["unit"]
    registers = _registers(module)
    ports = {
        name: (port["direction"], len(port["bits"]))
        for name, port in module["ports"].items()
        if name not in ("clk", "rst")
    }
    return Circuit(module, registers, _words(module, registers), ports)


def _registers(module: Json) -> tuple[Register, ...]:
    stored = {bit for cell in _flip_flops(module) for bit in cell["connections"]["Q"]}
    found: dict[int, Register] = {}
    for name, net in module["netnames"].items():
        attributes = {key: value.strip() for key, value in net["attributes"].items()}
        bits = tuple(net["bits"])
        if TAGS[0] not in attributes or not stored.issuperset(bits):
            continue
        number, variable, reset = (attributes[tag][1:] for tag in TAGS)
        *place, _ = attributes.get("hdlname", name).split(" ")
        keep = {k: v for k, v in attributes.items() if k in ("role", "lane", "replica")}
        path = ".".join((*place, variable))
        found[int(number)] = Register(int(number), path, len(bits), reset == "1", keep, bits)
    assert len({register.path for register in found.values()}) == len(found), "one name twice"
    return tuple(found[number] for number in sorted(found))


def _flip_flops(module: Json) -> list[Json]:
    """Cells with state, all of them plain $dff."""
    cells = [cell for cell in module["cells"].values() if re.search("ff|latch|sr$", cell["type"])]
    other = {cell["type"] for cell in cells} - {"$dff"}
    assert not other, f"state in cells of type {other}"
    return cells


def _words(module: Json, registers: tuple[Register, ...]) -> tuple[Register, ...]:
    """Words of memories; every other flip-flop has to be a known register."""
    known = {bit for register in registers for bit in register.bits}
    words = []
    for name, cell in module["cells"].items():
        bits = tuple(cell["connections"].get("Q", ()))
        if cell["type"] != "$dff" or known.issuperset(bits):
            continue
        word = re.fullmatch(r"\$memory\\?(.+\[\d+\])\$\d+", name)
        assert word, f"flip-flop without a site: {name}"
        assert known.isdisjoint(bits), f"half a register: {name}"
        number = len(registers) + len(words)
        words.append(Register(number, word[1], len(bits), True, {"role": "memory"}, bits))
    return tuple(words)


def instrument(circuit: Circuit, free: Collection[Register], struck: Collection[Register]) -> Json:
    """The module with ports formal_{first, start_<n>, strike_<n>, state_<n>}; n are registers.

    Registers in `free` are what `formal_start_<n>` is while `formal_first`; those in `struck` are
    read as they are XOR `formal_strike_<n>`.
    """
    module = copy.deepcopy(circuit.module)
    editor = _Editor(module)
    first = editor.port("formal_first", "input", 1)[0]
    begins: dict[int, int] = {}
    places: dict[int, int] = {}
    for register in circuit.registers:
        for chosen, kind, table in ((free, "start", begins), (struck, "strike", places)):
            if register in chosen:
                bits = editor.port(f"formal_{kind}_{register.number}", "input", register.width)
                table |= zip(register.bits, bits, strict=True)
    inits = editor.take_inits()
    for cell in _flip_flops(module):
        editor.split(cell, inits, first, begins, places)
    for register in circuit.state:
        editor.port(
            f"formal_state_{register.number}", "output", register.width, list(register.bits)
        )
    return module


def _widths(circuit: Circuit, starts: dict[str, int]) -> dict[str, int]:
    return {r.key: r.width for r in circuit.registers if r.key in starts}


class _Editor:
    """Adds ports, gates and initial values to a module in Yosys's JSON."""

    def __init__(self, module: Json) -> None:
        self.module = module
        nets = [n["bits"] for kind in ("ports", "netnames") for n in module[kind].values()]
        nets += [bits for c in module["cells"].values() for bits in c["connections"].values()]
        self.last = max(bit for bits in nets for bit in bits if isinstance(bit, int))

    def fresh(self, width: int) -> list[int]:
        self.last += width
        return list(range(self.last - width + 1, self.last + 1))

    def port(self, name: str, way: str, width: int, bits: list[int] | None = None) -> list[int]:
        bits = bits or self.fresh(width)
        self.module["ports"][name] = {"direction": way, "bits": bits}
        self.module["netnames"][name] = {"hide_name": 0, "bits": bits, "attributes": {}}
        return bits

    def gate(self, kind: str, out: int, **ports: int) -> int:
        self.module["cells"][f"formal_{out}"] = {
            "hide_name": 0,
            "type": kind,
            "parameters": {},
            "attributes": {},
            "port_directions": {**dict.fromkeys(ports, "input"), "Y": "output"},
            "connections": {**{name: [bit] for name, bit in ports.items()}, "Y": [out]},
        }
        return out

    def take_inits(self) -> dict[int, str]:
        """Remove the initial values; bit -> "0" or "1"."""
        inits: dict[int, str] = {}
        for net in self.module["netnames"].values():
            value = net["attributes"].pop("init", "")
            for bit, digit in zip(net["bits"], reversed(value), strict=False):
                if digit in "01":
                    inits[bit] = digit
        return inits

    def split(
        self,
        cell: Json,
        inits: dict[int, str],
        first: int,
        begins: dict[int, int],
        places: dict[int, int],
    ) -> None:
        """Put the choice of the start and the upset between a flip-flop and its readers."""
        read = cell["connections"]["Q"]
        held = self.fresh(len(read))
        cell["connections"]["Q"] = held
        value = "".join(inits.get(bit, "0") for bit in reversed(read))
        net = {"hide_name": 0, "bits": held, "attributes": {"init": value}}
        self.module["netnames"][f"held_{held[0]}"] = net
        for bit, now in zip(read, held, strict=True):
            if bit in begins:
                (begun,) = self.fresh(1)
                now = self.gate("$_MUX_", begun, A=now, B=begins[bit], S=first)
            if bit in places:
                self.gate("$_XOR_", bit, A=now, B=places[bit])
            else:
                self.gate("$_BUF_", bit, A=now)
