"""A design that is not ours: its Verilog as one text, its ports, its registers and memories.

Verilator's preprocessor joins the files, so that Yosys and the simulator read the same text;
`SYNTHESIS` is defined, `VERILATOR` is not.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...quant.errors import InputError
from ...quant.names import printable
from .. import cache, native_model, netlist, state_cells, toolchain
from ..native_model import Design
from ..trace import Port

__all__ = ["Source", "read"]

TIMEOUT_S = 600
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MODULE = re.compile(r"^\s*module\s+(?:automatic\s+|static\s+)?([A-Za-z_]\w*)", re.MULTILINE)
_STRING = re.compile(r'"([^"\\\n]{1,4000})"')

Json = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """A readable design. `inputs` are without the clock; `held` maps a flip-flop cell with
    asynchronous controls to their conditions for each bit (`state_cells.controls`); `digest` is the
    SHA-256 of the text and of the files that it loads."""

    name: str
    text: str
    top: str
    clock: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    design: Design
    held: dict[str, list[tuple[state_cells.Condition, ...]]]
    digest: str

    def port(self, name: str, ports: Sequence[Port], what: str) -> Port:
        """The port of this name; InputError listing what there is."""
        for port in ports:
            if port.name == name:
                return port
        names = ", ".join(port.name for port in ports) or "none"
        raise InputError(f"module {self.top} has no {what} {printable(name)}; it has: {names}")


def read(
    files: Sequence[Path],
    top: str,
    clock: str,
    *,
    include: Sequence[Path] = (),
    define: Sequence[str] = (),
) -> Source:
    """Read the Verilog or SystemVerilog `files`; `include` are folders, `define` NAME[=VALUE].

    Raises InputError, naming file, module, port or cell, for what cannot be a campaign: a file or
    module that is not there, a clock that is no input, a second clock, a latch, no state at all.
    """
    for name, what in ((top, "top"), (clock, "clock")):
        if not _NAME.fullmatch(name):
            raise InputError(f"--{what}: {printable(name)} is no plain Verilog name")
    text = _preprocessed(files, include, define)
    modules = sorted(set(_MODULE.findall(text)))
    if top not in modules:
        listed = ", ".join(modules) or "none"
        raise InputError(f"no module {top} in {_names(files)}; there is: {listed}")
    text, digest = _with_absolute_paths(text, [path.resolve().parent for path in files])
    suffix = ".sv" if any(path.suffix == ".sv" for path in files) else ".v"
    with cache.scratch() as work:
        path = work / f"{files[0].stem}{suffix}"
        path.write_text(text, errors="surrogateescape")
        design = native_model.read_design(path, top)
        facts = _facts(path, top, digest)
    source = _source(path.name, text, top, clock, design, facts, digest)
    if not source.design.space.size:
        raise InputError(f"module {top} has no flip-flop and no memory: there is nothing to upset")
    return source


def _source(
    name: str, text: str, top: str, clock: str, design: Design, facts: Json, digest: str
) -> Source:
    both = [
        tuple(Port(n, w) for n, w, direction in facts["ports"] if direction == wanted)
        for wanted in ("input", "output")
    ]
    others = [n for n, _, direction in facts["ports"] if direction not in ("input", "output")]
    odd = [n for n, *_ in facts["ports"] if not _NAME.fullmatch(n)]
    if others or odd:
        raise InputError(
            f"module {top}: port {printable((others + odd)[0])} is bidirectional or has no plain "
            "name; wrap the module"
        )
    inputs = tuple(port for port in both[0] if port.name != clock)
    held = {
        cell: [tuple(map(_tuples, bit)) for bit in bits] for cell, bits in facts["held"].items()
    }
    source = Source(name, text, top, clock, inputs, both[1], design, held, digest)
    if source.port(clock, both[0], "input").width != 1:
        raise InputError(f"module {top}: input {clock} is wider than one bit and no clock")
    used = facts["clock"]
    if used is not None and used != clock:
        raise InputError(
            f"module {top} is clocked by {printable(used)}, not by {clock}: --clock {used}"
        )
    return source


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _facts(path: Path, top: str, digest: str) -> Json:
    """Ports as (name, width, direction), the clock of the registers, asynchronous controls."""
    code = [Path(module.__file__ or "").read_bytes() for module in (netlist, state_cells)]
    code.append(Path(__file__).read_bytes())

    def make(folder: Path) -> None:
        module = netlist.canonical(path, top).clean
        cells = state_cells.flip_flops(module)
        rows = [(n, len(p["bits"]), p["direction"]) for n, p in module["ports"].items()]
        clocked = [c["connections"]["CLK"][0] for c in module["cells"].values() if _clocked(c)]
        clocks = [n for n, p in module["ports"].items() if clocked and p["bits"] == clocked[:1]]
        facts = {"ports": rows, "clock": clocks[0] if clocks else None}
        facts["held"] = state_cells.controls(module, cells)
        (folder / "facts.json").write_text(json.dumps(facts))

    entry = cache.entry("foreign", cache.key(digest, path.suffix, top, *code), make)
    facts: Json = json.loads((entry / "facts.json").read_text())
    return facts


def _clocked(cell: Json) -> bool:
    return "CLK" in cell["connections"] and cell["type"] not in ("$memrd", "$memrd_v2")


def _names(files: Sequence[Path]) -> str:
    return ", ".join(printable(path.name) for path in files)


def _preprocessed(files: Sequence[Path], include: Sequence[Path], define: Sequence[str]) -> str:
    """The files as one text, by Verilator's preprocessor."""
    for path in files:
        if not path.is_file():
            raise InputError(f"{printable(str(path))}: no such Verilog file")
    for folder in include:
        if not folder.is_dir():
            raise InputError(f"--include: {printable(str(folder))} is no folder")
    for one in define:
        if not re.fullmatch(rf"{_NAME.pattern}(=[^\s]*)?", one):
            raise InputError(f"--define: {printable(one)} is not NAME or NAME=VALUE")
    tool = toolchain.verilator()
    folders = [path.resolve() for path in include] + [path.resolve().parent for path in files]
    command = [str(tool.program), "-E", "-P", "--pp-comments", "-Wno-fatal", "-UVERILATOR"]
    command += ["-DSYNTHESIS", *(f"-D{one}" for one in define)]
    command += [f"+incdir+{folder}" for folder in dict.fromkeys(folders)]
    with cache.scratch() as work:
        done = subprocess.run(
            [*command, *(str(path.resolve()) for path in files)],
            cwd=work,
            env=tool.environment,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=TIMEOUT_S,
        )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "rror" in line] or ["no message"]
        why = re.sub(r"%Error: |\S*/(?=[^/ ]+:)", "", lines[0])
        raise InputError(f"{_names(files)}: cannot be read: {printable(why)}")
    return done.stdout


def _with_absolute_paths(text: str, folders: Sequence[Path]) -> tuple[str, str]:
    """Strings that name a file beside the Verilog ($readmemh) as absolute paths, and the digest of
    text and files."""
    digest = hashlib.sha256(text.encode(errors="surrogateescape"))

    def absolute(match: re.Match[str]) -> str:
        for folder in folders:
            path = folder / match[1]
            if path.is_file() and _STRING.fullmatch(f'"{path}"'):
                digest.update(path.read_bytes())
                return f'"{path}"'
        return match[0]

    return _STRING.sub(absolute, text), digest.hexdigest()
