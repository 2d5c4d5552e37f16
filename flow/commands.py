"""What each command calls, and whether what it had to show holds. Imports wait for their use."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..quant.errors import InputError
from .exactness import explained, statements
from .progress import Progress

__all__ = [
    "Done",
    "Run",
    "build",
    "demo",
    "doctor",
    "estimate",
    "harden",
    "inject",
    "report",
    "run",
    "search",
    "synth",
    "verify",
]

Result = dict[str, Any]


@dataclass(frozen=True)
class Done:
    """A command's result, how to show it, and the claim that failed, if one did."""

    result: Result
    show: Callable[[Result], None]
    failure: str | None = None


Run = Callable[[Namespace], Done]


def demo(args: Namespace) -> Done:
    """The whole loop on real digits."""
    from . import report_text
    from .demo import demo as run_demo

    with Progress(not args.json) as progress:
        result = run_demo(args.out, quick=args.quick, progress=progress)
    return Done(result, report_text.demo)


def doctor(args: Namespace) -> Done:
    """The state of the installation."""
    from . import report_text
    from .doctor import diagnose

    result = diagnose()
    missing = [check["name"] for check in result["checks"] if check["required"] and not check["ok"]]
    failure = f"missing: {', '.join(missing)}" if missing else None
    return Done(result, report_text.doctor, failure)


def build(args: Namespace) -> Done:
    """A model becomes a build directory."""
    from . import report_text
    from .builder import build as run_build

    with Progress(not args.json) as progress:
        result = run_build(
            args.model,
            args.output,
            vectors=args.vectors,
            progress=progress,
            **_model(args),
        )
    if args.explain:
        result |= statements(args.model)
    return Done(result, explained(report_text.build))


def _model(args: Namespace) -> dict[str, Any]:
    """The options that turn a model into a design."""
    names = ("calibration", "target", "plan", "fold", "fps", "fit", "explain", "trust_model")
    options = {name: getattr(args, name) for name in names}
    return options | {"clock_mhz": args.clock, "quantisation": quantisation(args)}


def quantisation(args: Namespace) -> Result:
    """The quantisation options that were given, by the names of `QuantConfig`."""
    names = ("weight_bits", "act_bits", "scheme", "ranges", "percentile", "m_bits", "per_channel")
    given = {name: getattr(args, name) for name in (*names, "asymmetric")}
    return {name: value for name, value in given.items() if value is not None}


def run(args: Namespace) -> Done:
    """A network on inputs."""
    from . import report_text
    from .runner import run as run_network

    result = run_network(args.source, args.inputs, args.output, args.engine)
    failure = None if result["equal_to_reference"] else "the engine differs from the reference"
    return Done(result, report_text.run, failure)


def verify(args: Namespace) -> Done:
    """Benches on the Verilog; the result is kept in DIR/verify.json."""
    from ..sim.verify import verify as run_benches
    from . import report_text
    from .synth import write_json

    with Progress(not args.json) as progress:
        result = run_benches(args.directory, images=args.images, seed=args.seed, progress=progress)
    write_json(args.directory / "verify.json", result)
    failed = [bench["name"] for bench in result["benches"] if not bench["passed"]]
    failure = f"benches failed: {', '.join(failed)}" if failed else None
    if result["mismatches"] and not failed:
        failure = f"{result['mismatches']} words differ from the reference"
    return Done(result, report_text.verify, failure)


def synth(args: Namespace) -> Done:
    """Measured area, and the clock rate with --pnr."""
    from . import report_text
    from .synth import synth as run_synth

    if args.freq is not None and not args.pnr:
        raise InputError("--freq needs --pnr: only place and route knows the clock rate")
    with Progress(not args.json) as progress:
        result = run_synth(
            args.directory,
            target=args.target,
            pnr=args.pnr,
            seeds=args.seeds,
            frequency_mhz=args.freq,
            progress=progress,
        )
    return Done(result, report_text.synth)


def inject(args: Namespace) -> Done:
    """A fault campaign, or the replay of one of its experiments."""
    from . import inject_options, inject_text

    if args.replay is not None:
        return _replay(args)
    if args.engine == "software":
        return _software(args)
    options = inject_options.campaign(args)
    if args.heatmap is not None:
        from . import heatmap

        heatmap.check(args.heatmap)
    with Progress(not args.json) as progress:
        result = _campaign(args, options, progress)
    if args.heatmap is not None:
        heatmap.draw(args.directory or args.output, result["id"], args.heatmap)
    disagreements = result["audit"]["disagreements"]
    failure = f"audit: {disagreements} faults went another way in cocotb" if disagreements else None
    return Done(result, inject_text.inject, failure)


def _campaign(args: Namespace, options: Result, progress: Progress) -> Result:
    """The campaign that the engine's name or --verilog asks for."""
    if args.verilog is not None:
        return _foreign(args, options, progress)
    if args.engine == "netlist":
        from .mapped_netlist import run_netlist_campaign

        return run_netlist_campaign(
            args.directory, target=args.target, progress=progress, **options
        )
    from ..sim.campaign import run_campaign

    return run_campaign(args.directory, progress=progress, **options)


def _foreign(args: Namespace, options: Result, progress: Progress) -> Result:
    """A fault campaign on a design and a bench that are not ours."""
    from dataclasses import fields

    from ..sim.campaign import Options, run_on
    from ..sim.foreign.testbed import ForeignTestbed
    from . import foreign_options

    chosen = Options(**{f.name: options[f.name] for f in fields(Options) if f.name in options})
    ForeignTestbed.check_engine(chosen.engine)
    progress("compiling the design and running its bench")
    testbed = foreign_options.open_testbed(args)
    operation = {key: options[key] for key in ("workers", "resume")}
    result = run_on(testbed, args.output, chosen, progress=progress, **operation)
    window = result["window"]
    note = f"faults in cycles {window['from']} to {window['cycles'] - 1} of the bench's run"
    return result | {"notes": [*result["notes"], f"{note}: {window['why']}"]}


def _software(args: Namespace) -> Done:
    from ..sim.software_campaign import software_campaign
    from . import inject_options, inject_text

    options = inject_options.software(args)
    with Progress(not args.json) as progress:
        result = software_campaign(args.directory, progress=progress, **options)
    return Done(result, inject_text.software)


def _replay(args: Namespace) -> Done:
    from ..sim.replay import replay
    from . import inject_options, inject_text

    options = inject_options.replay(args)
    with Progress(not args.json) as progress:
        result = replay(args.directory, progress=progress, **options)
    failure = None if result["agrees"] else "the replay went another way than the campaign"
    return Done(result, inject_text.replay, failure)


def estimate(args: Namespace) -> Done:
    """Costs without any tool."""
    from . import report_text
    from .estimator import estimate_command

    result = estimate_command(args.model, resilience=args.resilience, **_model(args))
    return Done(result | statements(args.model), explained(report_text.estimate))


def harden(args: Namespace) -> Done:
    """A plan within a budget, or to a ratio, chosen and measured."""
    from .harden import command, text

    names = ("budget", "target_ratio", "target", "calibration", "estimate", "explain", "fold")
    options = {name: getattr(args, name) for name in (*names, "fps", "fit", "trust_model")}
    if args.faults is not None:
        options["faults"] = args.faults
    with Progress(not args.json) as progress:
        result = command.harden(
            args.model,
            args.output,
            clock_mhz=args.clock,
            quantisation=quantisation(args),
            progress=progress,
            **options,
        )
    return Done(result, text.show, result["failure"])


def search(args: Namespace) -> Done:
    """A search space, its front and, if asked for, finalists measured."""
    from .search import command, text

    options = {} if args.faults is None else {"faults": args.faults}
    with Progress(not args.json) as progress:
        result = command.search(
            args.space,
            args.output,
            resume=args.resume,
            workers=args.workers,
            measure=args.finalists,
            progress=progress,
            **options,
        )
    return Done(result, text.show, result["failure"])


def report(args: Namespace) -> Done:
    """The safety case of a build directory."""
    from .report import write

    result = write.report(args.directory, plain=args.against, output=args.output)
    return Done(result, write.show)
