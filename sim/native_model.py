"""A design compiled for the native fault engine: its cut netlist, its tables, its program.

With streams only their ports, clock and reset are driven; other inputs of the top module stay 0.
What is compiled is kept in the cache.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..quant.errors import InputError
from ..quant.names import printable
from . import cache, netlist, sites, state_cells, verilate
from .faults import Space
from .manifest import Manifest
from .trace import container_bytes

if TYPE_CHECKING:
    from .foreign.source import Source

__all__ = [
    "Design",
    "NativeModel",
    "TraceModel",
    "build",
    "build_replayed",
    "container_bytes",
    "counters",
    "program",
    "read_design",
]

ENGINES = Path(__file__).parent / "engines"
SOURCES = ("native_model.h", "native_memories.h", "native_engine.h")


@dataclass(frozen=True)
class Design:
    """The registers of a design and its cut netlist."""

    registers: tuple[sites.Register, ...]
    cut: netlist.Cut

    @functools.cached_property
    def bit_numbers(self) -> dict[tuple[str, int], int]:
        """(cell, index) -> number of the bit in the engine's order."""
        numbers: dict[tuple[str, int], int] = {}
        first = 0
        for row in self.cut.registers:
            numbers |= {(row["cell"], i): first + i for i in range(row["width"])}
            first += row["width"]
        return numbers

    @functools.cached_property
    def space(self) -> Space:
        """The numbering of all fault targets: flip-flop bits, then memories, ROMs included."""
        rows = [(row["name"], row["width"], row["depth"]) for row in self.cut.memories]
        return Space.of(self.ff_bits, rows)

    @property
    def ff_bits(self) -> int:
        """Number of flip-flop bits."""
        return sum(register.width for register in self.registers)


@dataclass(frozen=True)
class NativeModel:
    """The compiled campaign program of a design."""

    manifest: Manifest
    design: Design
    program: Path


@dataclass(frozen=True)
class TraceModel:
    """The compiled campaign program of a design whose recorded runs are replayed."""

    source: Source
    program: Path


def read_design(verilog: Path, top: str) -> Design:
    """Registers and cut netlist of a Verilog file; InputError naming what is not supported."""
    parts = (verilog.read_bytes(), verilog.suffix, top, importlib.metadata.version("pyosys"))
    code = [Path(module.__file__ or "").read_bytes() for module in (netlist, sites, state_cells)]

    def make(folder: Path) -> None:
        registers = sites.enumerate(verilog, top)
        cut = netlist.cut(verilog, top)
        both = {"registers": [dataclasses.asdict(r) for r in registers], "cut": vars(cut)}
        (folder / "design.json").write_text(json.dumps(both))

    path = cache.entry("cut", cache.key(*parts, *code), make) / "design.json"
    data = json.loads(path.read_text())
    registers = tuple(_register(row) for row in data["registers"])
    design = Design(registers, netlist.Cut(**data["cut"]))
    if {(b.cell, b.index) for r in registers for b in r.bits} != set(design.bit_numbers):
        raise AssertionError("the cut netlist has other flip-flop bits than the enumeration")
    return design


def _register(row: dict[str, object]) -> sites.Register:
    bits = tuple(
        sites.Bit(**{**bit, "path": tuple(bit["path"])})
        for bit in row["bits"]  # type: ignore[attr-defined]
    )
    return sites.Register(**{**row, "bits": bits, "aliases": tuple(row["aliases"])})  # type: ignore


def build(found: Manifest) -> NativeModel:
    """Compile the campaign program of a design, or take it from the cache.

    Raises InputError if Yosys, Verilator or the compiler refuses the design.
    """
    design, ports = read_design(found.verilog, found.top), _ports(found)
    missing = [name for name in ports.values() if name and f" {name};" not in design.cut.verilog]
    if missing:
        raise InputError(f"{found.verilog}: module {found.top} has no port {printable(missing[0])}")
    macros = [
        f"#define TERCET_{key} {_variable(name) if name else 0}" for key, name in ports.items()
    ]
    return NativeModel(found, design, program(design, found.top, macros, "native_stream.cpp"))


def build_replayed(source: Source) -> TraceModel:
    """Compile the campaign program of a design whose recorded runs are replayed.

    Raises InputError if Verilator or the compiler refuses the design.
    """
    macros = [
        f"#define TERCET_{key}(X) " + " ".join(f'X({_variable(p.name)}, "{p.name}")' for p in ports)
        for key, ports in (("INPUTS", source.inputs), ("OUTPUTS", source.outputs))
    ]
    return TraceModel(source, program(source.design, source.top, macros, "native_trace.cpp"))


def program(design: Design, top: str, macros: list[str], environment: str) -> Path:
    """The compiled engine with an environment and the macros of its ports."""
    public = f'public_flat_rw -module "{top}" -var "tercet_ram_*"'
    main = "".join((ENGINES / name).read_text() for name in (*SOURCES, environment))
    recipe = verilate.Recipe(
        sources={"cut.vlt": f"`verilator_config\n{public}\n", "cut.v": design.cut.verilog},
        top=top,
        main="\n".join([*_tables(design.cut, top), *macros, main]),
        verilator_flags=("-O3", "--x-assign", "0", "--no-assert", "-Wno-lint", "-Wno-UNOPTFLAT"),
        optimise="-O3",
    )
    return verilate.executable(recipe)


def counters(found: Manifest) -> dict[str, str | None]:
    """Outputs that are not 0 in a cycle which counts a retry or a correction, if there are any:
    key `counters` of the manifest, {"retried": port, "corrected": port}."""
    given = found.raw.get("counters") or {}
    names = {key: given.get(key) for key in ("retried", "corrected")}
    if any(
        n is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", n) for n in names.values()
    ):
        raise InputError(f"{found.directory / 'manifest.json'}: counters must name output ports")
    return names


def _ports(found: Manifest) -> dict[str, str | None]:
    """Macro name -> port; None where the design has no such port."""
    ports: dict[str, str | None] = {key.upper(): name for key, name in counters(found).items()}
    ports["RESET"] = found.reset
    for prefix, stream in (("IN", found.input), ("OUT", found.output)):
        for key in ("valid", "ready", "data", "first", "last"):
            ports[f"{prefix}_{key.upper()}"] = getattr(stream, key)
    ports["OUT_ERR"] = found.output.err
    return ports


def _mangled(name: str) -> str:
    """A Verilog name as Verilator writes it in C++."""
    return name.replace("__", "___05F")


def _variable(port: str) -> str:
    """The C++ variable of a port."""
    return f"model.root.{_mangled(port)}"


def _tables(cut: netlist.Cut, top: str) -> list[str]:
    """The C++ preprocessor tables that native_model.h is written against."""
    arrays = {row["array"]: n for n, row in enumerate(cut.memories)}
    rows: dict[str, list[tuple[int, ...]]] = {
        "REGISTERS": [(row["n"], row["width"]) for row in cut.registers],
        "MEMORIES": [
            (n, row["width"], row["depth"], row["offset"]) for n, row in enumerate(cut.memories)
        ],
        "WRITES": [(row["n"], arrays[row["memory"]]) for row in cut.writes],
        "READS": [(row["n"], arrays[row["memory"]]) for row in cut.reads],
    }
    lines = [
        f"#define TERCET_{name}(X) " + " ".join(f"X({', '.join(map(str, r))})" for r in table)
        for name, table in rows.items()
    ]
    init = [
        byte
        for row in cut.registers
        for byte in row["init"].to_bytes(container_bytes(row["width"]), "little")
    ]
    lines.append("#define TERCET_INIT " + ", ".join(map(str, init)))
    lines.append(f"#define TERCET_ARRAY(n) root.{_mangled(top)}__DOT__tercet_ram_##n")
    return lines
