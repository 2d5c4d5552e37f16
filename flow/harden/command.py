"""`tercet harden`: profile, choose, build, measure, write the plan."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...quant.criticality import neuron_scores
from ...quant.errors import InputError
from ...quant.names import printable
from ...sim.statistics import ENOUGH_INPUTS
from ..design import prepare
from ..folding import Goal, folding_json
from ..synth import write_json
from .bench import Bench
from .coverage import Coverage
from .front import Point, front
from .predict import Predictor
from .profile import Profile, estimated, measured
from .rounds import Outcome, within_budget, within_ratio
from .source import Source, open_source
from .table import options_table, plan_table
from .toml_text import toml_text

__all__ = ["harden"]

Json = dict[str, Any]
FAULTS, SEED = 100_000, 0
SHOWN = 40
"""Points of the front that are written down at most."""


def harden(
    model: str,
    out: Path,
    *,
    budget: float | None = None,
    target_ratio: float | None = None,
    target: str | None = None,
    faults: int = FAULTS,
    calibration: Path | None = None,
    estimate: bool = False,
    explain: bool = False,
    fold: str = "auto",
    fps: float | None = None,
    fit: float | None = None,
    clock_mhz: float | None = None,
    trust_model: bool = False,
    quantisation: Mapping[str, Any] | None = None,
    progress: Callable[..., None] | None = None,
) -> Json:
    """Choose what protects MODEL or the design of a build directory, and measure it.

    Give either `budget`, area over the plain design's that may be spent, or `target_ratio` of
    vulnerable bit-cycles to the plain design's. `faults` upsets make each campaign; with `estimate`
    the profile needs none. Writes plan.toml, fold.toml, front.json, and the designs "plain" and
    "design" in the folder `out`. `failure` of the result is the claim that did not hold, or None.

    Raises InputError for bad input and for a budget that is too small; ClaimError when no upset of
    the plain design is critical.
    """
    if (budget is None) == (target_ratio is None):
        raise InputError("harden: give either --budget or --target-ratio")
    tell = progress or _silent
    tell("reading the model")
    source = open_source(
        model,
        target=target,
        calibration=calibration,
        goal=Goal(fold, fps, fit, clock_mhz),
        quantisation=quantisation,
        trust_model=trust_model,
    )
    _check_folder(out)
    bench = Bench(source, out, faults, SEED, tell)
    bench.build_plain()
    profile = _estimated(source) if estimate else _profile(source, bench)
    tell("scoring neurons")
    scores = neuron_scores(source.graph, source.inputs.scores, seed=SEED)
    predictor = Predictor(source.graph, source.folding, source.target, profile, scores)
    tell("choosing")
    points = front(predictor)
    if len(points) < 2:
        raise InputError("harden: no protection that was measured lowers the ratio of this design")
    if budget is not None:
        outcome = within_budget(points, budget, bench)
    else:
        outcome = within_ratio(points, float(target_ratio or 0), bench)
    result = _result(source, profile, predictor, points, outcome)
    result |= {"budget": budget, "target_ratio": target_ratio, "out": str(out)}
    if explain:
        result["explain"] = options_table(predictor, outcome.point)
    _write(out, source, outcome.point, result)
    return result


def _silent(*_: object) -> None:
    """No progress is shown."""


def _check_folder(out: Path) -> None:
    """A new folder, or one that an earlier run left. Raises InputError."""
    shown = printable(str(out))
    if out.exists() and not out.is_dir():
        raise InputError(f"{shown}: is a file; give a folder with -o")
    if out.is_dir() and any(out.iterdir()) and not (out / "plain" / "manifest.json").is_file():
        raise InputError(f"{shown}: holds something else than `tercet harden` writes; use another")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{shown}: cannot be created: {error.strerror}") from None


def _profile(source: Source, bench: Bench) -> Profile:
    layers = prepare(source.graph, source.folding).layers
    return measured(bench.profile(), layers)


def _estimated(source: Source) -> Profile:
    from ..resilience import resilience_estimate, sensitivity

    design = prepare(source.graph, source.folding)
    table = sensitivity(source.graph, source.inputs.profile)
    return estimated(resilience_estimate(design, table))


def _result(
    source: Source,
    profile: Profile,
    predictor: Predictor,
    points: Sequence[Point],
    outcome: Outcome,
) -> Json:
    step = -(-len(points) // SHOWN)
    kept = [*points[:-1:step], points[-1]]
    found = {name: n for name, n in source.inputs.counts.items() if n < ENOUGH_INPUTS}
    few = ", ".join(f"{n} for {name}" for name, n in found.items())
    return {
        "source": source.name,
        "target": source.target.name,
        "profile": profile.to_json(),
        "inputs": source.inputs.counts,
        "front": [point.to_json() for point in kept],
        "plan": outcome.point.plan.to_json(),
        "layers": plan_table(predictor, outcome.point),
        "predicted": vars(outcome.point.predicted),
        "measured": outcome.measured,
        "rounds": outcome.rounds,
        "coverage_of": list(Coverage.load().designs),
        "notes": [f"few inputs ({few}): intervals need {ENOUGH_INPUTS} each"] if few else [],
        "failure": outcome.failure,
    }


def _write(out: Path, source: Source, point: Point, result: Json) -> None:
    (out / "plan.toml").write_text(toml_text(point.plan.to_json()))
    fold = toml_text({"layer": folding_json(source.folding)})
    (out / "fold.toml").write_text(fold)
    write_json(out / "front.json", json.loads(json.dumps(result)))
