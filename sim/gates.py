"""A cut netlist as a network of 3-input LUTs: what the bit-parallel fault engine compiles.

A literal is 2 * node + inverted. Node 0 is the constant 0; then come the sources (flip-flop bits in
the order of the cut, inputs, words read from memories), then the LUTs in topological order. Bit i
of a LUT's table is its value for inputs a + 2 b + 4 c = i.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..quant.errors import InputError
from ..quant.names import printable
from . import cache, gates_mapping, netlist
from .gates_simplify import Builder

__all__ = ["Memory", "Network", "Read", "Write", "network"]

Json = dict[str, Any]


@dataclass(frozen=True)
class Read:
    """A read port: address literals, and the first source node of the word read."""

    address: tuple[int, ...]
    data: int


@dataclass(frozen=True)
class Write:
    """A write port: literals of address, data and one enable per bit."""

    address: tuple[int, ...]
    data: tuple[int, ...]
    enable: tuple[int, ...]


@dataclass(frozen=True)
class Memory:
    """A memory with its ports; `offset` is the address of the first word, `init` are the
    words at the start. Writes in order of priority,
    the last one wins."""

    name: str
    width: int
    depth: int
    offset: int
    init: tuple[int, ...]
    reads: tuple[Read, ...]
    writes: tuple[Write, ...]


@dataclass
class Network:
    """`state` sources 1..state are the flip-flop bits, `init` their values at power-on; `inputs`
    and `outputs` by port name as nodes and literals; `luts` (table, a, b, c) from node `first_lut`
    on, inputs as nodes; `next` [state] literals of the next state; `targets` the memories that can
    be struck, in the order of `Space`."""

    state: int
    init: list[int]
    inputs: dict[str, list[int]]
    first_lut: int
    luts: list[tuple[int, int, int, int]]
    next: list[int]
    outputs: dict[str, list[int]]
    memories: list[Memory] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)

    def roots(self) -> Iterator[int]:
        """Every literal that must be computed."""
        yield from self.next
        for literals in self.outputs.values():
            yield from literals
        for memory in self.memories:
            for read in memory.reads:
                yield from read.address
            for write in memory.writes:
                yield from (*write.address, *write.data, *write.enable)


def network(cut: netlist.Cut, top: str) -> Network:
    """The LUT network of a cut netlist; InputError when Yosys refuses it."""
    modules, memories = _mapped(cut.verilog, top)
    return _Reader(modules, memories, cut).network()


def _mapped(verilog: str, top: str) -> tuple[Json, list[Json]]:
    """Module and memories as `gates_mapping` writes them, from the cache or new."""
    code = Path(gates_mapping.__file__).read_bytes()
    parts = (verilog, top, code, importlib.metadata.version("pyosys"))

    def make(folder: Path) -> None:
        (folder / "cut.v").write_text(verilog)
        command = [sys.executable, "-P", "-m", "tercet.sim.gates_mapping", "cut.v", top, "."]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=folder)
        if done.returncode or not (folder / "luts.json").is_file():
            log = folder / gates_mapping.LOG
            text = log.read_text(errors="replace") if log.is_file() else ""
            lines = (text + "\n" + done.stdout + "\n" + done.stderr).strip().splitlines()
            why = [line for line in lines if "ERROR" in line] or lines[-1:] or ["no message"]
            raise InputError(f"bit-parallel engine: Yosys failed: {printable(why[-1])}")
        (folder / "cut.v").unlink()

    folder = cache.entry("luts", cache.key(*parts), make)
    module = json.loads((folder / "luts.json").read_text())["modules"][top]
    return module, json.loads((folder / "memories.json").read_text())


_FIXED = {"tercet_xor": 0x96, "tercet_maj": 0xE8}


class _Reader:
    """Yosys JSON of $lut, tercet_xor and tercet_maj cells to a simplified network."""

    def __init__(self, module: Json, memories: list[Json], cut: netlist.Cut) -> None:
        self.ports = {name: port["bits"] for name, port in module["ports"].items()}
        self.directions = {n: port["direction"] for n, port in module["ports"].items()}
        self.cut = cut
        known = {row["name"] for row in memories}  # Yosys drops memories that nothing reads
        unread = [row for row in cut.memories if row["array"] not in known]
        self.memories = memories + [
            {**row, "name": row["array"], "reads": [], "init": ["0"] * row["depth"]}
            for row in unread
        ]
        self.cells: dict[int, tuple[int, list[Any]]] = {}
        for cell in module["cells"].values():
            kind, pins = cell["type"], cell["connections"]
            if kind == "$scopeinfo":
                continue
            if kind == "$lut":
                table = int(cell["parameters"]["LUT"].replace("x", "0"), 2)
            elif kind in _FIXED:
                table = _FIXED[kind]
            else:
                raise InputError(f"bit-parallel engine: cell type {printable(kind)} is not mapped")
            self.cells[pins["Y"][0]] = (table, pins["A"])
        self.literal: dict[Any, int] = {"0": 0, "1": 1, "x": 0, "z": 0}
        self.nodes = 1

    def network(self) -> Network:
        """The network, simplified."""
        for row in self.cut.registers:
            self._sources(f"tercet_ff_{row['n']}", row["width"])
        state = self.nodes - 1
        own = [name for name, way in self.directions.items() if way == "input"]
        inputs = {n: self._sources(n, len(self.ports[n])) for n in own if "tercet_" not in n}
        data = {
            number: self._sources(f"tercet_ld_{number}", memory["width"])[0]
            for memory in self.memories
            for number in memory["reads"]
        }
        builder = Builder(self.nodes)
        self._build(builder)
        names = {row["name"]: n for n, row in enumerate(self.memories)}
        outs = [n for n, way in self.directions.items() if way == "output" and "tercet_" not in n]
        result = Network(
            state,
            [row["init"] >> i & 1 for row in self.cut.registers for i in range(row["width"])],
            inputs,
            self.nodes,
            builder.luts,
            [b for row in self.cut.registers for b in self._bits(f"tercet_nx_{row['n']}")],
            {name: list(self._bits(name)) for name in outs},
            [self._memory(row, data) for row in self.memories],
            [names[row["array"]] for row in self.cut.memories],
        )
        return builder.finished(result)

    def _sources(self, name: str, width: int) -> list[int]:
        """New source nodes for the bits of an input port; a port that nothing reads has none."""
        first = self.nodes
        self.nodes += width
        for i, net in enumerate(self.ports.get(name, ())):
            self.literal[net] = 2 * (first + i)
        return list(range(first, first + width))

    def _bits(self, name: str) -> tuple[int, ...]:
        return tuple(self.literal[net] for net in self.ports[name])

    def _build(self, builder: Builder) -> None:
        """Every cell after the cells that it reads, in depth-first order."""
        for root in self.cells:
            stack = [root]
            while stack:
                net = stack[-1]
                if net in self.literal:
                    stack.pop()
                    continue
                table, pins = self.cells[net]
                missing = [pin for pin in pins if pin not in self.literal]
                if missing:
                    if len(stack) > len(self.cells):
                        raise InputError("bit-parallel engine: a combinational loop")
                    stack += missing
                    continue
                self.literal[net] = builder.lut(table, [self.literal[pin] for pin in pins])
                stack.pop()

    def _memory(self, row: Json, data: dict[int, int]) -> Memory:
        writes = tuple(
            Write(*(self._bits(f"tercet_{key}_{w['n']}") for key in ("wa", "wd", "we")))
            for w in self.cut.writes
            if w["memory"] == row["name"]
        )
        reads = tuple(Read(self._bits(f"tercet_la_{n}"), data[n]) for n in row["reads"])
        init = tuple(int(word, 16) for word in row["init"])
        return Memory(row["name"], row["width"], row["depth"], row["offset"], init, reads, writes)
