"""The canonical netlist of a Verilog design, made by Yosys in a process of its own.

`canonical` reads the flattened netlist before and after clean-up; `cut` also turns every
flip-flop into an input (its state) and an output (its next state) and every clocked memory write
into outputs, so that what is left is a pure function. Yosys writes to the terminal and may abort:
it runs as `python -m tercet.sim.netlist`, and a failure becomes one InputError.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..quant.errors import InputError
from ..quant.names import printable

__all__ = ["NAME_ATTRIBUTE", "STATE_ATTRIBUTE", "Cut", "Netlist", "canonical", "cut"]

#: Set on the wires that a flip-flop drives inside its own module: the variable of the Verilog.
STATE_ATTRIBUTE = "tercet_state"
#: On a variable that stands for a register of another name; its `hdlname` is its own name.
NAME_ATTRIBUTE = "tercet_name"

FLATTEN = (
    "setattr -mod -unset keep_hierarchy",
    "setattr -unset keep_hierarchy",
    "flatten",
)
LOG = "yosys.log"  # of one pass, in the working folder
FIRST_PORT = 1_000_000  # after the ports of the design
#: Assertions and $display are no part of the circuit.
CHECKS = ("chformal -remove", "delete t:$print")
CLEAN = ("opt_clean", "memory_nordff")
#: Flip-flops to $dff (`async2sync` leaves synchronous resets, hence twice): with a level on set,
#: reset or load, Q shows it at once. That is exact at the clock's edges as long as a pulse lasts
#: over one.
PLAIN = ("dffunmap", "async2sync", "dffunmap", "bwmuxmap")

#: Initial blocks that do nothing but fill memories (or vectors) word by word.
_CONTENTS = re.compile(
    r"^\s*initial begin\n(?:\s*[A-Za-z_]\w*\[\d+\] = \d+'h[0-9a-f]+;\n)+\s*end\n", re.MULTILINE
)

Json = dict[str, Any]


@dataclass(frozen=True)
class Netlist:
    """Yosys JSON of the top module: `named` right after flattening, `clean` after CLEAN.

    Cells keep their names between the two. `named` still holds every alias of a register that
    clean-up drops; `clean` holds the cells that exist. `ff_bits` and `memory_bits` are what Yosys's
    statistics count in `clean`, without tables made of case statements.
    """

    named: Json
    clean: Json
    ff_bits: int
    memory_bits: int


@dataclass(frozen=True)
class Cut:
    """The pure function as Verilog text and its tables.

    `registers`: dicts (n, cell, width, init), state in port ff_n, next state in tercet_nx_n.
    `memories`: dicts (name, path, width, depth, offset, array) of all memories, ROMs included;
    `path` is the variable in the Verilog, `offset` the address of its first word, `array` the
    variable here. `writes`: dicts (n, memory, addr_bits) in order of priority, the last one wins;
    outputs tercet_wa_n (word address), tercet_wd_n (data), tercet_we_n (one enable per bit).
    `reads`: dicts (n, memory, addr_bits); outputs tercet_ra_n (word address).
    """

    verilog: str
    registers: list[Json]
    memories: list[Json]
    writes: list[Json]
    reads: list[Json]


def canonical(verilog: Path, top: str, *, contents: bool = True) -> Netlist:
    """The flattened netlist of module `top`; InputError when Yosys cannot read it.

    Without `contents` what memories hold at the start is not read, which can be most of the text;
    cells then have other names than in `cut`.
    """
    with TemporaryDirectory(prefix="tercet-netlist-") as folder:
        out = Path(folder)
        _check(verilog)
        source = verilog
        if not contents:
            text = verilog.read_text(errors="surrogateescape")
            source = out / verilog.name
            source.write_text(_CONTENTS.sub("", text), errors="surrogateescape")
        _run(source, top, out, "canonical")
        named, clean = (_module(out / name, top) for name in ("named.json", "clean.json"))
        counted = json.loads((out / "stat.json").read_text())["design"]
        return Netlist(named, clean, _counted_ff_bits(counted), _memory_bits(counted, clean))


def cut(verilog: Path, top: str) -> Cut:
    """The design as a pure next-state function; InputError when Yosys cannot read it."""
    with TemporaryDirectory(prefix="tercet-netlist-") as folder:
        out = Path(folder)
        _run(verilog, top, out, "cut")
        tables = json.loads((out / "cut.json").read_text())
        return Cut((out / "cut.v").read_text(), **tables)


def _module(path: Path, top: str) -> Json:
    module: Json = json.loads(path.read_text())["modules"][top]
    return module


def _counted_ff_bits(counted: Json) -> int:
    """Bits of the cells whose type says that they hold state: $dff_8 counts eight."""
    kinds = (
        re.fullmatch(r"\$\w*(?:ff|latch|sr)[a-z]*_(\d+)", k) for k in counted["num_cells_by_type"]
    )
    return sum(int(k[1]) * int(counted["num_cells_by_type"][k[0]]) for k in kinds if k)


def _memory_bits(counted: Json, clean: Json) -> int:
    tables = [entry for name, entry in clean.get("memories", {}).items() if "$proc_rom" in name]
    return int(counted["num_memory_bits"] - sum(e["width"] * e["size"] for e in tables))


def _check(verilog: Path) -> None:
    if not verilog.is_file():
        raise InputError(f"{printable(str(verilog))}: no such Verilog file")


def _run(verilog: Path, top: str, out: Path, what: str) -> None:
    _check(verilog)
    command = [sys.executable, "-P", "-m", "tercet.sim.netlist", what]
    command += [str(verilog.resolve()), top, str(out)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=out)
    if done.returncode:
        log = (out / LOG).read_text(errors="replace") if (out / LOG).is_file() else ""
        lines = (log + "\n" + done.stdout + "\n" + done.stderr).strip().splitlines()
        why = [line for line in lines if "ERROR" in line] or lines[-1:] or ["no message"]
        raise InputError(f"{printable(verilog.name)}: Yosys failed: {printable(why[-1])}")


class _Yosys:
    """A Yosys design with quiet passes; lives in the child process only."""

    def __init__(self, verilog: str, top: str) -> None:
        from pyosys import libyosys

        self.ys = libyosys
        self.design = libyosys.Design()
        language = " -sv" if verilog.endswith(".sv") else ""
        self.run(f"read_verilog{language} {_quoted(verilog)}", f"hierarchy -check -top {top}")
        self.run("proc", *CHECKS)
        self._mark_state()
        self.run(*FLATTEN)

    def run(self, *passes: str) -> None:
        for one in passes:
            self.ys.run_pass(f"tee -q -o {LOG} {one}", self.design)

    def id(self, name: str) -> Any:
        return self.ys.IdString(name)

    @property
    def top(self) -> Any:
        return self.design.top_module()

    def _mark_state(self) -> None:
        port = self.id("\\Q")
        for module in self.design.all_selected_modules():
            for cell in module.cells_.values():
                if cell.is_builtin_ff():
                    for bit in cell.getPort(port).bits():
                        if bit.is_wire():
                            bit.wire.set_bool_attribute(self.id("\\" + STATE_ATTRIBUTE), True)


def _quoted(path: str) -> str:
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _write_canonical(yosys: _Yosys, out: Path) -> None:
    yosys.run(f"write_json {_quoted(str(out / 'named.json'))}", *CLEAN)
    yosys.run(f"write_json {_quoted(str(out / 'clean.json'))}")
    yosys.run(f"tee -q -o {_quoted(str(out / 'stat.json'))} stat -json -width")


def _write_cut(yosys: _Yosys, out: Path) -> None:
    yosys.run(*CLEAN, *PLAIN)
    inits = _take_inits(yosys)
    tables = {
        "registers": _cut_registers(yosys, inits),
        "memories": _rename_memories(yosys),
        "reads": _show_reads(yosys),
        "writes": _cut_writes(yosys),
    }
    yosys.top.fixup_ports()
    yosys.run("opt_clean", f"write_verilog -noattr {_quoted(str(out / 'cut.v'))}")
    (out / "cut.json").write_text(json.dumps(tables))


def _take_inits(yosys: _Yosys) -> dict[tuple[str, int], str]:
    """Remove the initial values; (wire, offset) -> "0", "1" or "x"."""
    inits: dict[tuple[str, int], str] = {}
    key = yosys.id("\\init")
    for wire in list(yosys.top.wires_.values()):
        if key in wire.attributes:
            value = wire.attributes[key].as_string()[::-1]
            inits |= {(wire.name.str(), i): value[i] for i in range(wire.width)}
            del wire.attributes[key]
    return inits


def _cut_registers(yosys: _Yosys, inits: dict[tuple[str, int], str]) -> list[Json]:
    top, ys = yosys.top, yosys.ys
    cells = [cell for cell in top.cells_.values() if cell.is_builtin_ff()]
    table = []
    for n, cell in enumerate(sorted(cells, key=lambda cell: cell.name.str())):
        if cell.type.str() != "$dff":
            raise AssertionError(f"{cell.type.str()} has a next state that is not its input D")
        state, following = cell.getPort(yosys.id("\\Q")), cell.getPort(yosys.id("\\D"))
        bits = [inits.get((b.wire.name.str(), b.offset), "x") for b in state.bits()]
        init = int("".join(reversed(bits)).replace("x", "0"), 2)
        table.append({"n": n, "cell": cell.name.str(), "width": state.size(), "init": init})
        top.remove(cell)
        source = _port(yosys, f"tercet_ff_{n}", state.size())
        sink = _port(yosys, f"tercet_nx_{n}", 0, following)
        source.port_input, sink.port_output = True, True
        # In this order Verilator lays the states out side by side: one copy for many of them.
        source.port_id, sink.port_id = FIRST_PORT + n, FIRST_PORT + len(cells) + n
        top.connect(state, ys.SigSpec(source))
    return table


def _port(yosys: _Yosys, name: str, width: int, driver: Any = None) -> Any:
    """A new wire, driven by `driver` and of its width where one is given."""
    wire = yosys.top.addWire(yosys.id("\\" + name), driver.size() if driver else width)
    if driver:
        yosys.top.connect(yosys.ys.SigSpec(wire), driver)
    return wire


def _rename_memories(yosys: _Yosys) -> list[Json]:
    """Give each memory a plain name; the driver finds its array by it.

    Tables that Yosys made of case statements are logic, not memories: they keep their names.
    """
    yosys.run("memory_collect")
    cells = [cell for cell in yosys.top.cells_.values() if cell.type.str() == "$mem_v2"]
    table: list[Json] = []
    for cell in sorted(cells, key=lambda cell: cell.name.str()):
        memid, array = yosys.id("\\MEMID"), f"tercet_ram_{len(table)}"
        name = cell.getParam(memid).decode_string()
        if name.startswith("$") and not cell.getParam(yosys.id("\\WR_PORTS")).as_int():
            continue
        row: Json = {"name": name.removeprefix("\\"), "array": array}
        key = yosys.id("\\hdlname")
        path = cell.attributes[key].decode_string() if key in cell.attributes else row["name"]
        row["path"] = path.split(" ")
        for key, parameter in (("width", "WIDTH"), ("depth", "SIZE"), ("offset", "OFFSET")):
            row[key] = cell.getParam(yosys.id("\\" + parameter)).as_int()
        cell.setParam(memid, yosys.ys.Const("\\" + array))
        table.append(row)
    yosys.run("memory_unpack")
    return table


def _cut_writes(yosys: _Yosys) -> list[Json]:
    def order(cell: Any) -> tuple[str, int]:
        memory = cell.getParam(yosys.id("\\MEMID")).decode_string()
        return memory, cell.getParam(yosys.id("\\PORTID")).as_int()

    cells = [cell for cell in yosys.top.cells_.values() if "memwr" in cell.type.str()]
    table = []
    for n, cell in enumerate(sorted(cells, key=order)):
        signals = {key: cell.getPort(yosys.id("\\" + key)) for key in ("ADDR", "DATA", "EN")}
        for prefix, key in (("wa", "ADDR"), ("wd", "DATA"), ("we", "EN")):
            _port(yosys, f"tercet_{prefix}_{n}", 0, signals[key]).port_output = True
        memory = order(cell)[0].removeprefix("\\")
        table.append({"n": n, "memory": memory, "addr_bits": signals["ADDR"].size()})
        yosys.top.remove(cell)
    return table


def _show_reads(yosys: _Yosys) -> list[Json]:
    """Outputs with the addresses of all memory reads."""
    cells = [cell for cell in yosys.top.cells_.values() if "memrd" in cell.type.str()]
    table: list[Json] = []
    for cell in sorted(cells, key=lambda cell: cell.name.str()):
        memory = cell.getParam(yosys.id("\\MEMID")).decode_string().removeprefix("\\")
        if not memory.startswith("tercet_ram_"):
            continue
        address = cell.getPort(yosys.id("\\ADDR"))
        _port(yosys, f"tercet_ra_{len(table)}", 0, address).port_output = True
        table.append({"n": len(table), "memory": memory, "addr_bits": address.size()})
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="tercet.sim.netlist")
    parser.add_argument("what", choices=("canonical", "cut"))
    parser.add_argument("verilog")
    parser.add_argument("top")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    yosys = _Yosys(args.verilog, args.top)
    (_write_canonical if args.what == "canonical" else _write_cut)(yosys, args.out)
    sys.stdout.flush()
    os._exit(0)  # Yosys frees a design for seconds; the files are written


if __name__ == "__main__":
    main()
