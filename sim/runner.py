"""Build the cocotb model of a design once, run benches on it many times.

cocotb's own Python runner publishes every signal (`--public-flat-rw`), which makes the model 4.3
times slower, and changes os.environ; so the few variables that its simulator library reads are set
here.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..quant.errors import ClaimError, InputError
from . import probe, verilate
from .manifest import Manifest, Register

__all__ = [
    "Bench",
    "Result",
    "build",
    "cocotb_recipe",
    "environment",
    "program",
    "python_path",
    "recipe",
    "start",
    "verdicts",
]

TIMEOUT_S = 3600
POLL_S = 1.0


@dataclass(frozen=True)
class Result:
    """One finished bench: did it pass, what it wrote, and why it failed."""

    name: str
    passed: bool
    detail: Mapping[str, Any]
    message: str


def python_path() -> str:
    """PYTHONPATH of the simulator's interpreter: ours, without the current directory."""
    here = Path.cwd().resolve()
    kept = [entry for entry in sys.path if entry and Path(entry).is_absolute()]
    return os.pathsep.join(e for e in kept if Path(e).exists() and Path(e).resolve() != here)


def recipe(manifest: Manifest, registers: Iterable[Register] = ()) -> verilate.Recipe:
    """The design inside its probe, with these registers writable from a cocotb bench.

    `verilate.executable` compiles it. Raises InputError if cocotb is not installed.
    """
    sources = {
        "public.vlt": probe.control_file(manifest, registers),
        "design.v": manifest.verilog.read_text(encoding="utf-8"),
        "probe.sv": probe.wrapper(manifest),
    }
    return cocotb_recipe(sources, probe.TOP)


def build(manifest: Manifest, registers: Iterable[Register] = ()) -> Path:
    """The cocotb model of `recipe`; errors as `program`."""
    return verilate.executable(recipe(manifest, registers))


def program(sources: Mapping[str, str]) -> Path:
    """The cocotb model of Verilog and .vlt texts with top module probe.TOP.

    Raises InputError if cocotb is not installed or the Verilog does not compile.
    """
    return verilate.executable(cocotb_recipe(sources, probe.TOP))


def cocotb_recipe(
    sources: Mapping[str, str],
    top: str,
    *,
    main: Callable[[str], str] = str,
    verilator_flags: tuple[str, ...] = (),
    link: tuple[str, ...] = (),
) -> verilate.Recipe:
    """The cocotb model of Verilog and .vlt texts with module `top` as its root; `main` may change
    the text of cocotb's main program. InputError if cocotb is not installed."""
    share, libraries, _ = _cocotb()
    text = main((share / "lib" / "verilator" / "verilator.cpp").read_text(encoding="utf-8"))
    flags = (f"-Wl,-rpath,{libraries}", f"-L{libraries}", "-lcocotbvpi_verilator", *link)
    return verilate.Recipe(sources, top, text, ("--vpi", *verilator_flags), flags)


def _cocotb() -> tuple[Path, Path, str]:
    """cocotb's share folder, its library folder, and the GPI_USERS of its simulator library."""
    try:
        import find_libpython
        from cocotb_tools import config
    except ImportError:
        raise InputError("no cocotb: pip install 'tercet[sim]'") from None
    library = find_libpython.find_libpython()
    if library is None:
        raise InputError("no shared libpython: install a Python built with --enable-shared")
    return config.share_dir, config.libs_dir, f"{library};{config.pygpi_entry_point()}"


class Bench:
    """Running cocotb tests of one module; leaving its context ends them."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", work: Path, names: tuple[str, ...]
    ) -> None:
        self._process, self._work, self._names = process, work, names

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def wait(
        self, timeout_s: float = TIMEOUT_S, progress: Callable[[str], None] | None = None
    ) -> list[Result]:
        """One result a test, in order; a test that left none failed, with the log's last line.

        `progress` is told every second which tests have not ended. Raises ClaimError if they do
        not end in time.
        """
        deadline = time.monotonic() + timeout_s
        while self._process.poll() is None:
            left = deadline - time.monotonic()
            if left <= 0:
                names = ", ".join(self._names)
                raise ClaimError(f"benches {names} did not end in {timeout_s:.0f} s")
            unfinished = ", ".join(self._unfinished())
            if progress is not None and unfinished:
                progress(f"waiting for {unfinished}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(min(left, POLL_S))
        found = verdicts(self._work / "results.xml")
        return [self._result(name, found.get(name)) for name in self._names]

    def _unfinished(self) -> list[str]:
        return [name for name in self._names if not (self._work / f"{name}.json").is_file()]

    def _result(self, name: str, verdict: str | None) -> Result:
        path = self._work / f"{name}.json"
        detail = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if verdict is None:
            lines = (self._work / "log.txt").read_text(errors="replace").strip().splitlines()
            verdict = (
                f"no result: {lines[-1].strip() if lines else 'the simulator printed nothing'}"
            )
        return Result(name, not verdict, detail, verdict)


def verdicts(path: Path) -> dict[str, str]:
    """Name -> "" if passed, else why not ("skipped"), of each test in cocotb's JUnit file."""
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError):
        return {}
    found = {}
    for case in root.iter("testcase"):
        bad = [child for child in case if child.tag in ("failure", "error", "skipped")]
        why = ""
        if bad:
            why = "skipped" if bad[0].tag == "skipped" else bad[0].get("message") or bad[0].tag
        found[case.get("name") or ""] = why
    return found


def environment(modules: str, top: str, work: Path) -> dict[str, str]:
    """The environment in which the tests of `modules` (comma-separated) run on module `top`;
    cocotb's options of the caller are not passed on."""
    _, _, users = _cocotb()
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("COCOTB_", "GPI_", "PYGPI_"))
    }
    return kept | {
        "PYTHONPATH": python_path(),
        "PYGPI_PYTHON_BIN": sys.executable,
        "GPI_USERS": users,
        "COCOTB_TOPLEVEL": top,
        "COCOTB_TEST_MODULES": modules,
        "COCOTB_RESULTS_FILE": str(work / "results.xml"),
        "COCOTB_RANDOM_SEED": "1",
        "COCOTB_LOG_LEVEL": "INFO",
        "TOPLEVEL_LANG": "verilog",
    }


def start(
    model: Path,
    module: str,
    names: tuple[str, ...],
    work: Path,
    *,
    random_state: bool = True,
    arguments: tuple[str, ...] = (),
    **options: Any,
) -> Bench:
    """Start the tests `names` of the bench `module` in the folder `work`.

    `arguments` are the simulator's own. `options` are what the bench reads from
    `work`/options.json. Each test writes `work`/<name>.json; the simulator's output goes to
    `work`/log.txt. What has no initial value starts with random bits, or with zeros if not
    `random_state`.
    """
    work.mkdir(parents=True, exist_ok=True)
    (work / "options.json").write_text(json.dumps(options))
    variables = environment(module, probe.TOP, work) | {
        "COCOTB_TEST_FILTER": "|".join(rf"\.{name}$" for name in names),
        "COCOTB_TRUST_INERTIAL_WRITES": "1",
        "TERCET_BENCH": str(work),
    }
    reset = "2" if random_state else "0"
    command = [str(model), f"+verilator+rand+reset+{reset}", "+verilator+seed+1", *arguments]
    with (work / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=work,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    return Bench(process, work, names)
