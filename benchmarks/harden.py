"""Harden's predicted cost and ratio against built and injected; its front beside uniform plans.

A small network of the digits (4 and 8 channels, seed 0; the coverage table was measured on other
networks). Uniform plans have the same setting in all layers. For each of them the front's plan of
at most its cost is measured too, and some more of the front: 10 plans or more. Costs are Yosys's,
ratios those of campaigns on the test images; profile and scores come from the selection images.
Measured plans are kept in OUT/plans.json: the same command goes on after the last.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from tercet.flow import targets
from tercet.flow.design import prepare
from tercet.flow.harden.bench import Bench
from tercet.flow.harden.front import Point, front
from tercet.flow.harden.predict import Predictor
from tercet.flow.harden.profile import measured
from tercet.flow.harden.source import Inputs, Source
from tercet.hw.configure import Fold, Protection
from tercet.quant import datasets
from tercet.quant.criticality import neuron_scores
from tercet.quant.ir import Conv2d, Dense
from tercet.quant.models.digits import digits_network
from tercet.quant.quantize import quantize_input

UNIFORM: dict[str, dict[str, Any]] = {
    "control parity": {"control": "parity"},
    "control parity, watchdog": {"control": "parity", "watchdog": True},
    "control tmr": {"control": "tmr"},
    "checksum 3, control parity": {"modulus": 3, "control": "parity"},
    "checksum 3, control tmr": {"modulus": 3, "control": "tmr"},
    "tmr, control tmr": {"neurons": "all", "control": "tmr"},
    "codes, control parity, watchdog": {
        "modulus": 3, "control": "parity", "stream": "parity", "post": "parity",
        "weights": "parity", "watchdog": True,
    },
    "codes, control tmr": {
        "modulus": 3, "control": "tmr", "stream": "parity", "post": "dup", "weights": "parity",
    },
}  # fmt: skip
"""Fields of `Protection` in all layers that have them; those that were not measured are left out.
"""
FOLDS = (Fold(2, 3), Fold(4, 4), Fold(2, 4))
LINEAR = ("modulus", "neurons", "weights")
MORE = (0.015, 0.03, 0.05, 0.1, 0.15, 0.2)
"""Overheads at which the front is measured besides."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="ecp5-85k")
    parser.add_argument("--faults", type=int, default=20_000, help="upsets of each campaign")
    parser.add_argument("--inputs", type=int, default=40, help="images to judge by")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/harden-bench"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    source = digits_source(options.target, options.inputs)
    bench = Bench(source, options.output, options.faults, 0, lambda *_: None, audit=0)
    bench.build_plain()
    kept = options.output / "profile.json"
    if not kept.exists():
        kept.write_text(json.dumps(bench.profile()))
    predictor = make_predictor(source, json.loads(kept.read_text()))
    points = front(predictor)
    rows = run(predictor, points, bench, options.output / "plans.json")
    report(rows)


def digits_source(target: str, count: int) -> Source:
    """The network; the selection images score and profile, the test images judge."""
    graph, data = digits_network(seed=0, widths=(4, 8)), datasets.digits()
    linear = [node.name for node in graph if isinstance(node, Conv2d | Dense)]
    folding = prepare(graph, dict(zip(linear, FOLDS, strict=True))).folding
    select, test = (quantize_input(graph, x) for x in (data.select_x, data.test_x))
    sets = Inputs(select[:128], select[128:160], test[:count])
    return Source("digits", graph, folding, targets.find(target), sets)


def make_predictor(source: Source, report: Any) -> Predictor:
    layers = prepare(source.graph, source.folding).layers
    profile = measured(report, layers)
    scores = neuron_scores(source.graph, source.inputs.scores, seed=0)
    return Predictor(source.graph, source.folding, source.target, profile, scores)


def uniform(plain: Predictor, fields: dict[str, Any]) -> Point | None:
    """The plan of the same fields in all layers; None if one of them was not measured."""
    fields = dict(fields)
    watched = fields.pop("watchdog", False)
    if watched and not plain.coverage.watched:
        return None
    predictor = plain.watched() if watched else plain
    names = {"modulus": "checksum", "neurons": "tmr"}
    for key, value in fields.items():
        wanted = "spatial" if key == "neurons" else str(value)
        if wanted not in predictor.coverage.values(names.get(key, key)):
            return None
    guards = {}
    for name in predictor.folding:
        node = predictor.graph.node(name)
        linear = isinstance(node, Conv2d | Dense)
        own = {key: value for key, value in fields.items() if linear or key not in LINEAR}
        if "neurons" in own:
            own["neurons"] = tuple(range(node.out_channels))
        guards[name] = Protection(**own)
    return Point((), (), guards, watched, predictor.predict(guards))


def run(
    predictor: Predictor, points: list[Point], bench: Bench, path: Path
) -> list[dict[str, Any]]:
    """A row a plan, by rising cost: name, what is predicted, what is measured; `rival`: the uniform
    plan that a plan of the front may cost as much as."""
    found = {name: uniform(predictor, fields) for name, fields in UNIFORM.items()}
    plans: list[tuple[str, str | None, Point]] = []
    for name, point in found.items():
        if point is not None:
            plans.append((name, None, point))
            plans.append(("front", name, below(points, point.predicted.overhead)))
    plans += [("front", None, below(points, overhead)) for overhead in MORE]
    plans.append(("front", None, points[-1]))
    plans.sort(key=lambda plan: plan[2].predicted.overhead)
    done = json.loads(path.read_text()) if path.exists() else {}
    rows = []
    for name, rival, point in plans:
        key = json.dumps(point.plan.to_json(), sort_keys=True)
        if key not in done:
            bench.build(point.plan)
            done[key] = bench.overhead() | bench.ratio()
            path.write_text(json.dumps(done, indent=1) + "\n")
        row = {"name": name, "rival": rival, "predicted": vars(point.predicted), **done[key]}
        rows.append(row | {"plan": key})
        print(line(row), flush=True)
    return rows


def below(points: list[Point], overhead: float) -> Point:
    """The front's plan of at most this overhead, the first protected one at least."""
    fitting = [point for point in points[1:] if point.predicted.overhead <= overhead + 1e-9]
    return fitting[-1] if fitting else points[1]


def line(row: dict[str, Any]) -> str:
    title = row["name"] if row["rival"] is None else f"front, cost of: {row['rival']}"
    ratio, guess = row["ratio"], row["predicted"]
    return (
        f"{title:48} area {guess['overhead']:+7.1%} / {row['overhead']:+7.1%}   "
        f"ratio {guess['ratio']:.4f} / {ratio['value']:.4f} "
        f"({ratio['low']:.4f} to {ratio['high']:.4f})"
    )


def report(rows: list[dict[str, Any]]) -> None:
    """Errors of the predictions, and the front against each uniform plan."""
    plans = list({row["plan"]: row for row in rows}.values())
    print(f"\n{len(plans)} different plans, {rows[0]['experiments']} upsets each")
    points = [100 * (row["predicted"]["overhead"] - row["overhead"]) for row in plans]
    print(
        f"area overhead, predicted - measured: mean {np.mean(points):+.1f}, "
        f"mean absolute {np.mean(np.abs(points)):.1f}, worst {max(points, key=abs):+.1f} points"
    )
    inside = sum(
        row["ratio"]["low"] <= row["predicted"]["ratio"] <= row["ratio"]["high"] for row in plans
    )
    seen = [row for row in plans if row["ratio"]["value"]]
    factors = [row["predicted"]["ratio"] / row["ratio"]["value"] for row in seen]
    print(
        f"ratio, predicted by measured: geometric mean {np.exp(np.mean(np.log(factors))):.2f}, "
        f"from {min(factors):.2f} to {max(factors):.2f}; inside the 95 % interval: "
        f"{inside} of {len(plans)}"
    )
    for row in rows:
        if row["rival"] is not None:
            other = next(one for one in rows if one["name"] == row["rival"])
            print(
                f"{row['rival']:30} uniform {other['overhead']:+.1%} {other['ratio']['value']:.4f}"
                f"   front {row['overhead']:+.1%} {row['ratio']['value']:.4f}"
            )


if __name__ == "__main__":
    main()
