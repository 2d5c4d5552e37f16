"""LUT networks to programs: g++ with the widest vectors that this machine has, once per content."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..quant.errors import InputError
from ..quant.names import printable
from . import cache, gates, gates_code, gates_mapping, gates_simplify, netlist, toolchain

__all__ = ["VECTORS", "Program", "build", "vectors"]

ENGINES = Path(__file__).parent / "engines"
LANES = "bitparallel_lanes.h"
DRIVER = (
    "bitparallel_model.h",
    "bitparallel_memories.h",
    "bitparallel_golden.h",
    "bitparallel_stream.h",
    "bitparallel_events.h",
    "bitparallel_sweep.h",
    "bitparallel_collapse.h",
    "bitparallel.cpp",
)
#: Compiler options by name, the widest first.
VECTORS = {
    "avx512": (
        "-mavx512f",
        "-mavx512bw",
        "-mavx512dq",
        "-mavx512vl",
        "-mprefer-vector-width=512",
        "-mbmi",
        "-mbmi2",
        "-mpopcnt",
    ),
    "avx2": ("-mavx2", "-mbmi", "-mbmi2", "-mpopcnt"),
    "portable": ("-DTERCET_PORTABLE",),
}
#: Flags of the processor that they need.
NEEDED = {
    "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl", "bmi1", "bmi2", "popcnt"},
    "avx2": {"avx2", "bmi1", "bmi2", "popcnt"},
}
TIMEOUT_S = 1800


@dataclass(frozen=True)
class Program:
    """The compiled engine of a design and the file with its memories' contents; `inputs` and
    `outputs` are the ports in the order of the trace's bits, as (name, width)."""

    model: Path
    contents: Path
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]
    luts: int


@functools.cache
def vectors() -> str:
    """The widest vectors that this processor and TERCET_VECTORS allow; InputError for a name that
    is not in VECTORS."""
    wanted = os.environ.get("TERCET_VECTORS")
    if wanted:
        if wanted not in VECTORS:
            raise InputError(f"TERCET_VECTORS must be one of {', '.join(VECTORS)}")
        return wanted
    try:
        flags = set(
            Path("/proc/cpuinfo").read_text().split("flags", 1)[1].split("\n", 1)[0].split()
        )
    except (OSError, IndexError):
        return "portable"
    if platform.machine() not in ("x86_64", "AMD64"):
        return "portable"
    return next((kind for kind, needed in NEEDED.items() if needed <= flags), "portable")


def build(cut: netlist.Cut, top: str, kind: str | None = None) -> Program:
    """The engine's program for a cut netlist, from the cache or new; `kind` one of VECTORS."""
    kind = kind or vectors()
    compiler = toolchain.compiler()
    code = [hashlib.sha256(Path(m.__file__ or "").read_bytes()).digest() for m in _MODULES]
    driver = "".join((ENGINES / name).read_text() for name in DRIVER)
    lanes = (ENGINES / LANES).read_text()
    names = (cut.verilog, repr(cut.registers), repr(cut.memories), repr(cut.writes), top)
    key = cache.key(*names, *code, driver, lanes, kind, compiler.version)
    folder = cache.entry(
        "bitparallel", key, lambda work: _make(work, cut, top, kind, driver, lanes)
    )
    lines = (folder / "ports").read_text().splitlines()
    ports = [tuple(line.split(" ")) for line in lines[1:]]
    inputs, outputs = (
        tuple((name, int(width)) for side, name, width in ports if side == wanted)
        for wanted in ("in", "out")
    )
    return Program(folder / "model", folder / "contents", inputs, outputs, int(lines[0]))


_MODULES = (gates, gates_code, gates_mapping, gates_simplify)


def _make(work: Path, cut: netlist.Cut, top: str, kind: str, driver: str, lanes: str) -> None:
    net = gates.network(cut, top)
    code = gates_code.emit(net)
    (work / LANES).write_text(lanes)
    for n, text in enumerate(code.parts):
        (work / f"part_{n}.cpp").write_text(text)
    (work / "main.cpp").write_text(code.tables + driver)
    sources = ["main", *(f"part_{n}" for n in range(len(code.parts)))]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(lambda name: _compile(work, name, kind), sources))
    _call(work, ["-o", "model", *(f"{name}.o" for name in sources), "-pthread"])
    for path in work.iterdir():
        if path.name != "model":
            path.unlink()
    (work / "contents").write_bytes(b"".join(_contents(memory) for memory in net.memories))
    rows = [f"in {name} {len(bits)}" for name, bits in net.inputs.items()]
    rows += [f"out {name} {len(bits)}" for name, bits in net.outputs.items()]
    (work / "ports").write_text("\n".join([str(len(net.luts)), *rows]))


def _contents(memory: gates.Memory) -> bytes:
    size = 8 * (-(-memory.width // 64))
    return b"".join(word.to_bytes(size, "little") for word in memory.init)


def _compile(work: Path, name: str, kind: str) -> None:
    level = "-O2" if name == "main" else "-O1"
    flags = ["-std=gnu++17", level, "-w", *VECTORS[kind]]
    _call(work, [*flags, "-c", f"{name}.cpp", "-o", f"{name}.o"])


def _call(work: Path, arguments: list[str]) -> None:
    command = [str(toolchain.compiler().program), *arguments]
    done = subprocess.run(
        command, cwd=work, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "rror" in line] or ["no message"]
        raise InputError(f"bit-parallel engine: the compiler failed: {printable(lines[0])}")
