"""Estimates of a search space in batch: how fast, cold and warm, and how far from the exact ones.

Seconds are those of the processor: other work on the machine does not count.

1. cold: seconds to make the rows that `--candidates` random candidates of a space need;
2. warm: estimates a second of `--batch` candidates a call and of one a call, median of five rounds,
   all their rows made before (asked: 50,000 and 2,000);
3. errors: each column against the exact estimator and the exact recurrence on the same skeletons;
4. `--train N`: the same against the estimate of N networks that are really trained (12 epochs).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from tercet.flow import targets
from tercet.flow.design import prepare
from tercet.flow.estimator import estimate_design
from tercet.flow.folding import meeting
from tercet.flow.search import topology
from tercet.flow.search.batch import Estimates
from tercet.flow.search.candidate import Candidate
from tercet.flow.search.segments import styled
from tercet.flow.search.skeleton import skeleton
from tercet.flow.search.space import Space
from tercet.flow.search.space_file import load_space
from tercet.quant.ir import Graph, IntArray

SPACE = Path(__file__).with_name("batch_space.toml")
CIRCUIT = ("luts", "ffs", "dsps", "brams", "initiation_interval", "latency_cycles")
ROUNDS = 5


def main() -> None:
    """Print the four parts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--space", type=Path, default=SPACE)
    parser.add_argument("--candidates", type=int, default=300)
    parser.add_argument("--batch", type=int, default=100_000)
    parser.add_argument("--train", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    space = load_space(given.space)
    encodings = space.sample(np.random.default_rng(given.seed), given.candidates)
    print(f"space of {space.size:,} candidates, {given.candidates} drawn with seed {given.seed}")
    tables = Estimates(space)
    start = time.process_time()
    tables.columns(encodings)
    cold = time.process_time() - start
    print(f"cold: {tables.rows} rows in {cold:.1f} s, {1000 * cold / tables.rows:.0f} ms a row")
    warm(tables, encodings, given.batch)
    errors(space, tables, encodings)
    if given.train:
        trained(space, tables, encodings[: given.train])


def warm(tables: Estimates, encodings: IntArray, batch: int) -> None:
    """Rates with every row there."""
    rows = np.resize(np.arange(len(encodings)), batch)
    many, one = encodings[rows], encodings[rows[:2000], None]

    def once(calls: list[IntArray]) -> float:
        start = time.process_time()
        for each in calls:
            tables.columns(each)
        return sum(map(len, calls)) / (time.process_time() - start)

    batched = statistics.median(once([many]) for _ in range(ROUNDS))
    single = statistics.median(once(list(one)) for _ in range(ROUNDS))
    print(
        f"warm: {batched:,.0f} estimates/s, {batch:,} a call; {single:,.0f} estimates/s, one a call"
    )


def exact(space: Space, candidate: Candidate, graph: Graph) -> dict[str, float]:
    """The figures of a candidate with this graph, by the exact estimator."""
    folding = styled(graph, meeting(graph, candidate.interval), candidate.multiplier)
    design = prepare(graph, folding, space.plan(candidate.plan_name))
    cost = estimate_design(design, targets.find(space.target))
    index = topology.asi(graph)
    return {name: cost[name] for name in CIRCUIT} | {
        "macs": topology.macs(graph),
        "parameters": topology.parameters(graph),
        "asi_fault": index.per_fault,
        "asi_ber": index.per_ber,
        "asi_worst": index.worst,
        "adcr": topology.adcr(graph),
    }


def errors(space: Space, tables: Estimates, encodings: IntArray) -> None:
    """Against the exact estimator, by family."""
    candidates = [space.decode(encoding) for encoding in encodings]
    start = time.process_time()
    found = [exact(space, one, skeleton(one.network)) for one in candidates]
    seconds = time.process_time() - start
    print(f"exact estimator: {len(found) / seconds:.1f} estimates/s, one a call")
    columns = tables.columns(encodings)
    for family in space.gene("family").choices:
        chosen = [i for i, one in enumerate(candidates) if one.network.family == family]
        print(f"{family}: {len(chosen)} skeletons")
        table(columns, found, chosen)


def trained(space: Space, tables: Estimates, encodings: IntArray) -> None:
    """Against networks that are trained."""
    from tercet.flow.search.evaluate import Evaluator

    with tempfile.TemporaryDirectory() as folder:
        evaluator = Evaluator(space, Path(folder))
        candidates = [space.decode(encoding) for encoding in encodings]
        graphs = [evaluator.train_network(one.network).graph for one in candidates]
    found = [exact(space, one, graph) for one, graph in zip(candidates, graphs, strict=True)]
    print(f"trained: {len(found)} networks")
    table(tables.columns(encodings), found, list(range(len(found))))


def table(columns: dict[str, np.ndarray], found: list[dict[str, float]], chosen: list[int]) -> None:
    """Equal candidates, mean and worst relative error of each column."""
    for name, values in columns.items():
        true = np.array([found[i][name] for i in chosen], dtype=np.float64)
        apart = np.abs(values[chosen] - true) / np.where(true == 0, 1.0, np.abs(true))
        equal = int((apart < 1e-12).sum())
        print(
            f"  {name:20} equal {equal:4} of {len(chosen):4}, mean error {apart.mean():8.3%}, "
            f"worst {apart.max():8.3%}"
        )


if __name__ == "__main__":
    main()
