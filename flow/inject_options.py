"""Options of `tercet inject`, and what they make of a campaign."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..quant.errors import InputError
from . import foreign_options, software_options
from .arguments import count, positive, share, small, whole

__all__ = ["add", "campaign", "replay", "software"]

ENGINES = ("native", "bitparallel", "cocotb", "netlist", "software")
_SAME = (
    *("engine", "faults", "margin", "until", "exhaustive", "confidence", "strata", "seed"),
    *("audit", "inputs", "first_input", "inputs_file", "workers", "resume"),
)
"""Options that have the same name in `run_campaign`."""


def add(command: argparse.ArgumentParser, directory: str) -> None:
    """The options; `directory` is the help of DIR."""
    command.add_argument("directory", type=Path, nargs="?", metavar="DIR", help=directory)
    command.add_argument(
        "--engine",
        choices=ENGINES,
        help="native (default): compiled C++, fast; bitparallel: hundreds of faults at a time; "
        "cocotb: slow, independent of both; netlist: the mapped netlist, bits of its look-up "
        "tables too; software: the integer graph, no circuit",
    )
    command.add_argument(
        "--target", metavar="T", help="of engine netlist (default: the one it was built for)"
    )
    _size(command)
    _faults(command)
    _inputs(command)
    _operation(command)
    foreign_options.add(command)
    software_options.add(command)


def _size(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("how many: at most one of the first four")
    group.add_argument("--faults", type=count, metavar="N", help="number of experiments")
    group.add_argument(
        "--margin",
        type=positive,
        metavar="E",
        help="as many as +-E of a rate needs at the worst rate (default: 0.01)",
    )
    group.add_argument(
        "--until",
        type=positive,
        metavar="E",
        help="stop as soon as the interval of the critical rate is within +-E",
    )
    group.add_argument(
        "--exhaustive",
        action="store_true",
        help="every site x every cycle; without --engine by fault collapsing (seu)",
    )
    group.add_argument(
        "--confidence",
        type=positive,
        default=0.95,
        metavar="C",
        help="of the intervals (default: 0.95)",
    )
    group.add_argument(
        "--strata",
        choices=("none", "role", "layer"),
        default="none",
        help="sample roles or layers in proportion to their bits (default: none)",
    )
    group.add_argument("--seed", type=whole, default=0, help="of the sample (default: 0)")


def _faults(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("faults")
    group.add_argument(
        "--fault",
        choices=("seu", "mbu", "stuck0", "stuck1", "memory", "config"),
        default="seu",
        help="upset of a flip-flop bit, of neighbours, stuck-at, of a memory bit, of a "
        "configuration bit (default: seu)",
    )
    group.add_argument("--bits", type=count, metavar="K", help="neighbours of an mbu (default: 2)")
    group.add_argument(
        "--cycles", type=count, metavar="N", help="that a stuck-at holds (default: for ever)"
    )
    group.add_argument(
        "--per-inference", type=count, metavar="K", help="upsets in each inference (default: 1)"
    )
    group.add_argument(
        "--rate",
        type=small,
        metavar="R",
        help="a Poisson number of upsets: R per bit and cycle, with --clock per bit and second",
    )
    group.add_argument(
        "--clock",
        metavar="MHZ|PORT",
        help="clock rate that --rate counts with; with --verilog the clock's name",
    )
    for key in ("layer", "role"):
        group.add_argument(
            f"--{key}", action="append", default=[], metavar="NAME", help=f"only this {key}"
        )


def _inputs(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("inputs")
    group.add_argument(
        "--inputs",
        type=count,
        default=32,
        metavar="K",
        help="inputs to spread them over (default: 32)",
    )
    group.add_argument(
        "--inputs-file", type=Path, metavar="X.npz", help="inputs `x` (default: DIR/vectors.npz)"
    )
    group.add_argument(
        "--first-input",
        type=whole,
        default=0,
        metavar="I",
        help="number of the first one (default: 0)",
    )
    for name, what in (("offer", "an input beat is offered"), ("ready", "the output is ready")):
        group.add_argument(
            f"--{name}",
            type=share,
            default=1.0,
            metavar="P",
            help=f"probability that {what} in a cycle (default: 1)",
        )


def _operation(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("operation")
    group.add_argument(
        "--audit",
        type=whole,
        default=500,
        metavar="N",
        help="experiments to repeat in cocotb (default: 500)",
    )
    group.add_argument(
        "--workers",
        type=count,
        default=2,
        metavar="N",
        help="processes; they change no result (default: 2)",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="go on with a campaign that was begun; a finished one is not run again",
    )
    group.add_argument(
        "--replay", metavar="ID", help="repeat experiment CAMPAIGN:NUMBER in cocotb, nothing else"
    )
    group.add_argument(
        "--waves", action="store_true", help="with --replay: write the waves of it and of no fault"
    )
    group.add_argument("--heatmap", type=Path, metavar="FILE", help="write the map as a picture")


def campaign(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `sim.campaign.run_campaign`; InputError for options that contradict."""
    from ..sim.sampling import FaultModel
    from ..sim.steady import Stalls

    if args.waves:
        raise InputError("--waves needs --replay ID")
    foreign_options.check(args)
    software_options.check(args)
    if args.target is not None and args.engine != "netlist":
        raise InputError("--target needs --engine netlist")
    rate = args.rate
    if args.clock is not None and args.verilog is None:
        if args.rate is None:
            raise InputError("--clock needs --rate")
        rate /= _megahertz(args.clock) * 1e6
    model = FaultModel(
        kind=args.fault,
        bits=args.bits,
        cycles=args.cycles,
        per_inference=args.per_inference,
        rate=rate,
        layers=tuple(args.layer),
        roles=tuple(args.role),
    )
    stalls = None
    if args.offer < 1 or args.ready < 1:
        stalls = Stalls(args.offer, args.ready, args.seed)
    options = {name: getattr(args, name) for name in _SAME} | {"model": model, "stalls": stalls}
    return options | {"engine": args.engine or _engine(args)}


def _engine(args: argparse.Namespace) -> str:
    """The engine if none is named: fault collapsing where it can be used."""
    collapse = args.exhaustive and args.fault == "seu" and args.verilog is None
    return "exhaustive" if collapse else "native"


def _megahertz(text: str) -> float:
    try:
        return positive(text)
    except argparse.ArgumentTypeError as error:
        raise InputError(f"--clock {error}") from None


def replay(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `sim.replay.replay`; InputError for other options beside --replay."""
    _only(args, ("replay", "waves"), "--replay: the campaign has its own")
    if args.directory is None:
        raise InputError("--replay: give the build directory DIR")
    return {"identity": args.replay, "waves": args.waves}


def software(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `sim.software_campaign`; InputError for options that it does not have."""
    kept = ("engine", "law", "tensor", "device", "rate", "layer", "faults", "inputs", "seed")
    _only(args, (*kept, "confidence"), "--engine software: it has no such option")
    return software_options.software(args)


def _only(args: argparse.Namespace, kept: tuple[str, ...], why: str) -> None:
    """InputError naming an option that was given and is none of `kept`."""
    parser = argparse.ArgumentParser()
    add(parser, "")
    for action in parser._actions:
        if action.dest in ("directory", *kept) or not hasattr(args, action.dest):
            continue
        if getattr(args, action.dest) != action.default:
            raise InputError(f"{action.option_strings[0]} and {why}")
