"""Options of `tercet inject --verilog`: a design and a bench that are not ours."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..quant.errors import InputError
from ..quant.names import printable
from .arguments import count, whole

if TYPE_CHECKING:
    from ..sim.foreign.testbed import ForeignTestbed

__all__ = ["add", "check", "open_testbed"]

_NEEDED = ("top", "clock", "bench", "output")
_OWN = ("top", "bench", "output", "include", "define", "flag", "reset", "start", "max_cycles")
_STREAMS = ("inputs", "inputs_file", "first_input", "offer", "ready")


def add(command: argparse.ArgumentParser) -> None:
    """The options."""
    group = command.add_argument_group(
        "a design of your own, in place of DIR",
        "needs --verilog, --top, --clock, --bench and -o; the Verilog and the bench are compiled "
        "and run with your rights",
    )
    group.add_argument(
        "--verilog", type=Path, nargs="+", metavar="FILE", help="Verilog or SystemVerilog"
    )
    group.add_argument("--top", metavar="T", help="its top module")
    group.add_argument("--bench", type=Path, metavar="BENCH.py", help="cocotb tests, as they are")
    group.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder for the campaign")
    group.add_argument(
        "--flag", metavar="PORT", help="output that is high when the design reports an error"
    )
    group.add_argument(
        "--reset",
        metavar="PORT",
        help="faults strike after it (default: an asynchronous one, or rst)",
    )
    group.add_argument(
        "--from",
        dest="start",
        type=whole,
        metavar="CYCLE",
        help="first cycle that faults strike, in place of --reset",
    )
    group.add_argument(
        "--max-cycles",
        type=count,
        metavar="N",
        help="give a bench up that runs longer (default: 1000000)",
    )
    group.add_argument(
        "--include", type=Path, action="append", default=[], metavar="DIR", help="for `include"
    )
    group.add_argument(
        "--define", action="append", default=[], metavar="NAME[=VALUE]", help="Verilog macro"
    )


def check(args: argparse.Namespace) -> None:
    """InputError unless the options belong together: DIR, or --verilog and what it needs."""
    names = {"output": "-o", "start": "--from", "max_cycles": "--max-cycles"}
    if args.verilog is None:
        given = [key for key in _OWN if getattr(args, key)]
        if given:
            raise InputError(f"{names.get(given[0], f'--{given[0]}')} needs --verilog")
        if args.directory is None:
            raise InputError("give the build directory DIR, or --verilog for a design of your own")
        return
    if args.directory is not None:
        raise InputError(
            f"{printable(str(args.directory))} and --verilog: give either a build directory or a "
            "design of your own"
        )
    for key in _NEEDED:
        if getattr(args, key) is None:
            raise InputError(f"--verilog needs {names.get(key, f'--{key}')}")
    defaults = {"inputs": 32, "inputs_file": None, "first_input": 0, "offer": 1.0, "ready": 1.0}
    for key in _STREAMS:
        if getattr(args, key) != defaults[key]:
            raise InputError(
                f"--{key.replace('_', '-')}: the bench makes the inputs, with --verilog"
            )


def open_testbed(args: argparse.Namespace) -> ForeignTestbed:
    """The testbed of the options; its folder for campaigns is there afterwards."""
    from ..sim.foreign.testbed import ForeignTestbed

    options: dict[str, Any] = {key: getattr(args, key) for key in ("top", "clock", "bench")}
    options |= {key: getattr(args, key) for key in ("flag", "reset", "include", "define")}
    if args.max_cycles is not None:
        options["max_cycles"] = args.max_cycles
    testbed = ForeignTestbed.open(args.verilog, first=args.start, **options)
    args.output.mkdir(parents=True, exist_ok=True)
    return testbed
