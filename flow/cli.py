"""Command line: arguments, errors as one line, exit status. The work is in `commands`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from ..quant.errors import ClaimError, InputError
from ..quant.names import printable
from . import commands, inject_options
from .arguments import count, percent, positive, share, whole
from .targets import TARGETS

__all__ = ["COMMANDS", "main", "parser"]

_EPILOG = """\
exit status: 0 what was asked holds; 1 it ran and a claim failed; 2 bad input; 130 interrupted
A DIR that somebody else made is code: verify, inject, run and synth compile and run its Verilog.
"""
_MODEL = (
    "FILE.onnx (float or quantised), FILE.py:NAME (your code, it is run), FILE.pt2 (with "
    "--trust-model), or graph.json"
)
_DIR = "build directory; its Verilog is compiled and run"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    args = parser().parse_args(argv)
    try:
        done = args.run(args)
        if args.json:
            print(json.dumps(done.result, indent=1))
        else:
            done.show(done.result)
        sys.stdout.flush()
        if done.failure is not None:
            raise ClaimError(done.failure)
    except InputError as error:
        return _complain("error", str(error), 2)
    except ClaimError as error:
        return _complain("failed", str(error), 1)
    except KeyboardInterrupt:
        return _complain("interrupted", "", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as a process that SIGPIPE ended
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("tercet"):
            raise
        fix = "pip install 'tercet[all]' (`tercet doctor` shows what is missing)"
        return _complain("error", f"{error.name} is not installed; {fix}", 2)
    except OSError as error:
        where = f"{printable(str(error.filename))}: " if error.filename else ""
        return _complain("error", f"{where}{error.strerror or error}", 2)
    return 0


def _complain(kind: str, message: str, status: int) -> int:
    """One line on stderr."""
    line = " ".join(message.split("\n"))
    print(f"tercet: {kind}: {line}" if line else f"tercet: {kind}", file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all errors of the command line."""

    def error(self, message: str) -> NoReturn:
        line = "".join(c if c.isprintable() else " " for c in message)
        self.exit(2, f"tercet: error: {line} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = _Parser(
        prog="tercet",
        description="Quantised networks become hardened, verified, fault-injected Verilog.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"tercet {version('tercet')}")
    names = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (text, add) in COMMANDS.items():
        command = names.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False
        )
        command.set_defaults(run=getattr(commands, name))
        command.add_argument("--json", action="store_true", help="print the result as JSON")
        add(command)
    return top


def _demo(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out",
        type=Path,
        default=Path("build/demo"),
        metavar="DIR",
        help="folder for everything it makes (default: build/demo)",
    )
    command.add_argument("--quick", action="store_true", help="fewer inputs and faults")


def _doctor(command: argparse.ArgumentParser) -> None:
    """It has no options of its own."""


def _build(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the design"
    )
    _model(command)
    command.add_argument(
        "--vectors",
        type=Path,
        metavar="X.npz",
        help="inputs `x`, with `labels` if known, for verify and inject (default: calibration)",
    )


def _estimate(command: argparse.ArgumentParser) -> None:
    _model(command)
    command.add_argument(
        "--resilience",
        action="store_true",
        help="predict what upsets of the registers do, from flips in the graph on the inputs of "
        "--calibration (of a build directory: its vectors.npz)",
    )


def _model(command: argparse.ArgumentParser) -> None:
    """What turns a model into a design."""
    command.add_argument("model", metavar="MODEL", help=_MODEL)
    command.add_argument(
        "--calibration",
        type=Path,
        metavar="X.npz",
        help="inputs `x` that set the ranges of a float model and score neurons for the plan",
    )
    _target(command, "to estimate for")
    command.add_argument("--plan", type=Path, metavar="P.toml", help="hardening plan")
    _folding(command)
    command.add_argument(
        "--trust-model",
        action="store_true",
        help="load FILE.pt2, which may run code that is stored in it",
    )
    _quantisation(command)


def _folding(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("folding: at most one of --fold, --fps and --fit")
    group.add_argument(
        "--fold", default="auto", metavar="auto|F.toml", help="lanes of each layer (default: auto)"
    )
    group.add_argument(
        "--fps", type=positive, metavar="N", help="as small as N frames a second allow"
    )
    group.add_argument(
        "--fit",
        type=positive,
        metavar="SHARE",
        help="as fast as fits a share of the target's LUTs, flip-flops, DSPs and memory, e.g. 0.8",
    )
    group.add_argument(
        "--clock", type=positive, metavar="MHZ", help="that --fps counts with (default: target's)"
    )
    group.add_argument(
        "--explain", action="store_true", help="print how each layer is folded and what it needs"
    )


def _quantisation(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("quantisation (of float models)")
    group.add_argument("--weight-bits", type=int, metavar="2..8", help="default: 8")
    group.add_argument("--act-bits", type=int, metavar="2..8", help="default: 8")
    group.add_argument("--scheme", metavar="scale|pow2", help="default: scale")
    group.add_argument("--ranges", metavar="minmax|percentile|mse", help="default: minmax")
    group.add_argument("--percentile", type=float, metavar="P", help="default: 99.99")
    group.add_argument("--m-bits", type=int, metavar="8..31", help="multiplier width (default: 16)")
    group.add_argument(
        "--per-tensor",
        dest="per_channel",
        action="store_false",
        default=None,
        help="one weight scale a layer, not one a channel",
    )
    group.add_argument(
        "--asymmetric",
        action="store_true",
        default=None,
        help="zero points where values are negative",
    )


def _target(command: argparse.ArgumentParser, why: str) -> None:
    command.add_argument("--target", metavar="T", help=f"FPGA {why}: {', '.join(TARGETS)}")


def _run(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "source",
        type=Path,
        metavar="DIR|graph.json|FILE.onnx",
        help=f"graph or quantised model, or {_DIR} by --engine verilator",
    )
    command.add_argument(
        "--inputs", type=Path, required=True, metavar="X.npz", help="integer inputs `x`"
    )
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="Y.npz",
        help="file for the logits and the arg-max",
    )
    command.add_argument(
        "--engine",
        choices=("reference", "torch", "verilator"),
        default="reference",
        help="default: reference",
    )


def _verify(command: argparse.ArgumentParser) -> None:
    command.add_argument("directory", type=Path, metavar="DIR", help=_DIR)
    command.add_argument("--images", type=int, metavar="N", help="inputs of vectors.npz to use")
    command.add_argument("--seed", type=int, default=0, help="of the stalls (default: 0)")


def _inject(command: argparse.ArgumentParser) -> None:
    inject_options.add(command, _DIR)


def _synth(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "directory", type=Path, metavar="DIR", help="build directory; Yosys reads its Verilog"
    )
    _target(command, "(default: the one it was built for)")
    command.add_argument(
        "--pnr",
        action="store_true",
        help="place and route as well (ecp5 targets); streams on any pins, so the "
        "bitstream measures and is not for a board",
    )
    command.add_argument(
        "--seeds",
        type=_seeds,
        default=(1, 2, 3),
        metavar="N,N,..",
        help="of place and route (default: 1,2,3)",
    )
    command.add_argument(
        "--freq", type=positive, metavar="MHZ", help="clock rate that --pnr has to reach"
    )


def _seeds(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) < 1 << 31 for part in parts):
        raise argparse.ArgumentTypeError(f"must be integers such as 1,2,3, not {text!r}")
    return tuple(int(part) for part in parts)


def _harden(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="DIR|MODEL", help=f"{_MODEL}, or {_DIR}")
    goal = command.add_mutually_exclusive_group(required=True)
    goal.add_argument(
        "--budget", type=percent, metavar="P%", help="area that protection may add, e.g. 10%%"
    )
    goal.add_argument(
        "--target-ratio",
        type=share,
        metavar="R",
        help="vulnerable bit-cycles to reach, by those of the plain design, e.g. 0.01",
    )
    _target(command, "to harden for")
    command.add_argument(
        "--calibration",
        type=Path,
        metavar="X.npz",
        help="inputs `x` to score, choose and judge by, in three parts; a DIR has its own to judge",
    )
    command.add_argument(
        "--faults", type=count, metavar="N", help="upsets of each campaign (default: 100000)"
    )
    command.add_argument(
        "--estimate", action="store_true", help="profile by estimate, without a campaign"
    )
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("build/harden"),
        metavar="OUT",
        help="folder for the plan, the front and both designs (default: build/harden)",
    )
    _folding(command)
    command.add_argument(
        "--trust-model",
        action="store_true",
        help="load FILE.pt2, which may run code that is stored in it",
    )
    _quantisation(command)


def _search(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "space",
        type=Path,
        metavar="SPACE.toml",
        help="search space; objectives FILE.py:NAME that it names are your code and are run",
    )
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for archive, networks, front and plots",
    )
    command.add_argument(
        "--resume", action="store_true", help="go on with the search that DIR holds"
    )
    command.add_argument(
        "--workers", type=count, metavar="N", help="processes (default: one for each processor)"
    )
    command.add_argument(
        "--finalists",
        type=whole,
        default=0,
        metavar="N",
        help="members of the front to build, verify, strike and synthesise (default: 0)",
    )
    command.add_argument(
        "--faults", type=count, metavar="N", help="upsets of each finalist (default: 20000)"
    )


def _report(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "directory", type=Path, metavar="DIR", help="build directory with campaigns; it is read"
    )
    command.add_argument(
        "--against",
        type=Path,
        metavar="PLAIN_DIR",
        help="build directory of the same network without protection, with a campaign",
    )
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE.html",
        help="the page (default: DIR/safety_case.html)",
    )


COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "demo": ("the whole loop on real digits: train, build, verify, inject, synthesise", _demo),
    "doctor": ("versions, tools, disk, and a fix for whatever is missing", _doctor),
    "build": ("turn a model into Verilog and its manifest", _build),
    "run": ("run a network on inputs, on any engine", _run),
    "verify": ("compare every layer of the Verilog with the reference, in cocotb", _verify),
    "inject": ("strike registers and memories and sort what happens", _inject),
    "synth": ("measured area and clock rate; redundancy traced in the netlist", _synth),
    "estimate": ("area and latency at once, without any tool", _estimate),
    "harden": ("choose what protects each layer, within a budget or to a ratio", _harden),
    "search": ("search networks, foldings and plans; the front with its circuits", _search),
    "report": ("the safety case of a design from its campaigns, as one page", _report),
}
