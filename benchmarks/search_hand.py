"""A search against networks made by hand: whose circuits are better in everything?

Searches `hand_space.toml` as `tercet search` does, then gives the networks of `HAND`, written down
before any search, what the search has: its training and quantiser, and every interval, multiplier
and plan of the space, so that they have more circuits than they need. A member of the front
dominates a circuit where it is nowhere worse and somewhere better. Since the front is chosen on the
select images, the same is counted again with the errors on the test images, which chose nothing.
DIR keeps archive and networks: a run that was stopped goes on when it is started again. All but the
seconds is deterministic. Exit status 1 if, with the errors on the select images, the front
dominates no circuit of some network.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tercet.flow.search.archive import NAME, Record, load_archive
from tercet.flow.search.candidate import Candidate, NetworkSpec, StageSpec
from tercet.flow.search.command import search
from tercet.flow.search.constraints import Constraints
from tercet.flow.search.crew import Crew
from tercet.flow.search.evaluate import Evaluator
from tercet.flow.search.pareto import front, hypervolume, matrix, reference_point
from tercet.flow.search.space import Space
from tercet.flow.search.space_file import load_space
from tercet.quant import reference
from tercet.quant.errors import ClaimError, InputError
from tercet.quant.quantize import quantize_input
from tercet.quant.train import accuracy

SPACE = Path(__file__).with_name("hand_space.toml")
OUT = Path("build/search_hand")


def network(
    family: str, *stages: tuple[int, int, int], head: str = "flatten", weight_bits: int = 8
) -> NetworkSpec:
    """A classifier of the digits; stages are (blocks, width, kernel)."""
    shape = tuple(StageSpec(*stage) for stage in stages)
    return NetworkSpec(family, shape, head, weight_bits, 8, "scale", (1, 8, 8), 10)


HAND = {
    "chain 8, 16 (the demo's)": network("chain", (1, 8, 3), (1, 16, 3)),
    "the same, 4-bit weights": network("chain", (1, 8, 3), (1, 16, 3), weight_bits=4),
    "chain 4, 8": network("chain", (1, 4, 3), (1, 8, 3)),
    "chain 16, 24": network("chain", (1, 16, 3), (1, 24, 3)),
    "chain 8, 8, 16, 16": network("chain", (2, 8, 3), (2, 16, 3)),
    "one stage of 8, 5x5": network("chain", (1, 8, 5)),
    "residual 8, 8": network("residual", (1, 8, 3), (1, 8, 3)),
    "residual 12, 12, mean": network("residual", (1, 12, 3), (1, 12, 3), head="mean"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "-o", "--out", type=Path, default=OUT, help=f"folder of the search (default: {OUT})"
    )
    parser.add_argument("--space", type=Path, default=SPACE, help="a SPACE.toml of digits")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    options = parser.parse_args()
    try:
        return compare(options.space, options.out, options.workers)
    except (InputError, ClaimError) as error:
        print(f"search_hand: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1


def compare(path: Path, out: Path, workers: int) -> int:
    """Search, evaluate what was made by hand, print both; the exit status."""
    space = load_space(path)
    evaluator = Evaluator(space, out)
    found = search(path, out, resume=(out / NAME).exists(), workers=workers)
    print(f"{versions()}; {space.size:,} candidates, seed {space.search.seed}")
    print(f"search: {found['evaluations']} evaluations, {len(found['front'])} on the front, "
          f"{found['seconds']:.0f} s in this run, {found['overhead_seconds']:.0f} s of them no "
          f"evaluation; failures {found['failures']}, refused {found['refused']}")  # fmt: skip
    best = front(load_archive(out).feasible, space.objectives)
    began = time.monotonic()
    made = circuits(evaluator, best, workers)
    print(f"by hand: {len(HAND)} networks, {len(made)} circuits that meet the constraints, "
          f"{time.monotonic() - began:.0f} s in this run")  # fmt: skip
    sets = {"select": (best, made), "test": (tested(evaluator, best), tested(evaluator, made))}
    counts = {images: dominated(*some, images, space) for images, some in sets.items()}
    print_example(*sets["test"], space)
    print_volume(sets, space)
    return 0 if all(counts["select"].values()) else 1


def versions() -> str:
    from importlib.metadata import version

    names = ("tercet", "numpy", "torch", "scikit-learn", "pymoo")
    return ", ".join(f"{name} {version(name)}" for name in names)


def circuits(evaluator: Evaluator, best: Sequence[Record], workers: int) -> list[Record]:
    """Every circuit of every network of `HAND` that meets the constraints.

    Members of the front are evaluated again beside them: InputError where one is no longer what the
    archive says, for then the two sides were judged differently.
    """
    space = evaluator.space
    hardware = [space.gene(name).choices for name in ("interval", "multiplier", "plan")]
    wanted = [
        (name, Candidate(spec, int(interval), str(multiplier), str(plan)))
        for name, spec in HAND.items()
        for interval, multiplier, plan in itertools.product(*hardware)
    ]
    members = [candidate_of(record, space) for record in best]
    with Crew(evaluator.evaluate, workers) as crew:
        results = crew.run([*members, *(candidate for _, candidate in wanted)])
    for record, result in zip(best, results, strict=False):
        if result.objectives != record.objectives:
            raise InputError(
                f"{evaluator.folder}: candidate {record.number} was judged by another version of "
                "tercet; search again in another folder"
            )
    limits, made = Constraints(space), []
    for (name, one), result in zip(wanted, results[len(best) :], strict=True):
        if result.objectives is None:
            print(f"refused: {name}, interval {one.interval}: {result.failure}")
        elif limits.broken(result.objectives) is None:
            genome = {"network": name, "candidate": one}
            made.append(Record(len(made), 0, (), genome, objectives=result.objectives))
    return made


def candidate_of(record: Record, space: Space) -> Candidate:
    """What a record stands for: one of the search has an encoding, one made by hand does not."""
    if record.encoding:
        return space.decode(np.array(record.encoding))
    one: Candidate = record.genome["candidate"]
    return one


def tested(evaluator: Evaluator, records: Sequence[Record]) -> list[Record]:
    """The records with the error on the test images in place of that on the select images."""
    images, errors, found = evaluator.images, dict[tuple[str, str], float](), []
    for record in records:
        candidate = candidate_of(record, evaluator.space)
        key = candidate.network.digest, candidate.plan_name
        if key not in errors:
            graph = evaluator.design(candidate).graph  # a plan's bounds change it
            scores = reference.run(graph, quantize_input(graph, images.test_x))
            errors[key] = 1 - accuracy(scores, images.test_y)
        found.append(
            replace(record, objectives={**(record.objectives or {}), "error": errors[key]})
        )
    return found


def over(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Which rows of `a` [n, objectives] dominate which of `b` [m, objectives]: [n, m]."""
    one, other = a[:, None], b[None]
    found: np.ndarray = (one <= other).all(axis=2) & (one < other).any(axis=2)
    return found


def circuits_of(name: str, made: Sequence[Record], space: Space) -> list[Record]:
    """The circuits of a network that no other circuit of it dominates: those that count."""
    own = [record for record in made if record.genome["network"] == name]
    return front(own, space.objectives) if own else []


def dominated(
    best: Sequence[Record], made: Sequence[Record], images: str, space: Space
) -> dict[str, int]:
    """Print, for each network made by hand, who dominates whom; dominated circuits by network."""
    print(f"\nerrors on the {images} images")
    print("| by hand | error | circuits | dominated by the front | by members | "
          "beyond the front | that dominate a member |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    members, counts = matrix(best, space.objectives), {}
    for name in HAND:
        own = circuits_of(name, made, space)
        if not own:
            print(f"| {name} | - | 0 | | | | |")
            continue
        values = matrix(own, space.objectives)
        down, up = over(members, values), over(values, members)
        reached = (members[:, None] <= values[None]).all(axis=2).any(axis=0)
        counts[name] = int(down.any(axis=0).sum())
        error = (own[0].objectives or {})["error"]
        beyond, worse = int((~reached).sum()), int(up.any(axis=1).sum())
        row = len(own), counts[name], int(down.any(axis=1).sum()), beyond, worse
        print(f"| {name} | {error:.2%} | {' | '.join(map(str, row))} |")
    losing = int(over(matrix(made, space.objectives), members).any(axis=0).sum())
    print(f"members that something made by hand dominates: {losing} of {len(best)}")
    least = [min((one.objectives or {})["error"] for one in some) for some in (best, made)]
    print(f"least error: {least[0]:.2%} on the front, {least[1]:.2%} by hand")
    none = [name for name, count in counts.items() if not count]
    print(f"networks of which the front dominates no circuit: {', '.join(none) or 'none'}")
    return counts


def print_example(best: Sequence[Record], made: Sequence[Record], space: Space) -> None:
    """The pair with the largest gain of each network, of its circuits that count."""
    print("\nthe widest pair of each network, errors on the test images")
    print(f"| | circuit | {' | '.join(space.objectives)} |")
    print("|---|---|" + "---|" * len(space.objectives))
    members = matrix(best, space.objectives)
    for name in HAND:
        own = circuits_of(name, made, space)
        values = matrix(own, space.objectives)
        floor = 1 / 720  # of an error: half an image
        gain = np.log(np.maximum(values, floor)[None] / np.maximum(members, floor)[:, None]).sum(2)
        gain[~over(members, values)] = -np.inf
        if not gain.size or np.isneginf(gain).all():
            continue
        member, circuit = np.unravel_index(int(gain.argmax()), gain.shape)
        print_row(name, own[int(circuit)], space)
        print_row(f"member {best[int(member)].number}", best[int(member)], space)


def print_row(title: str, record: Record, space: Space) -> None:
    candidate = candidate_of(record, space)
    net, values = candidate.network, record.objectives or {}
    text = f"{candidate.interval} {candidate.multiplier} {candidate.plan_name}"
    if record.encoding:
        stages = " ".join(f"{s.blocks}x{s.width}k{s.kernel}" for s in net.stages)
        text += f", {net.family} {stages} {net.head} w{net.weight_bits}a{net.act_bits}"
    shown = [
        f"{values[name]:.2%}" if name == "error" else f"{values[name]:,.0f}"
        for name in space.objectives
    ]
    print(f"| {title} | {text} | {' | '.join(shown)} |")


def print_volume(
    sets: Mapping[str, tuple[Sequence[Record], Sequence[Record]]], space: Space
) -> None:
    """Hypervolumes under a point a tenth worse than the worst of both in each objective."""
    names = space.objectives
    print("\n| hypervolume | front | all made by hand | both |\n|---|---|---|---|")
    for images, (best, made) in sets.items():
        point = reference_point(matrix([*best, *made], names))
        shown = [
            hypervolume(some, names, dict(zip(names, point, strict=True)))
            for some in (best, made, [*best, *made])
        ]
        print(f"| {images} images | {' | '.join(f'{value:.4f}' for value in shown)} |")


if __name__ == "__main__":
    sys.exit(main())
