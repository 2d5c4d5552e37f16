"""NSGA-II and NSGA-III against random search on a measured space, and what the search itself costs.

Reads the table that `search_table.py` wrote. Each engine searches with the same seeds and as many
evaluations; the hypervolume is taken between each objective's best and worst over the table's true
front, the reference point a tenth behind the worst, and divided by that of the true front. Pairs
share a seed: Wilcoxon's signed-rank test. Then, per seed, after how many evaluations an engine has
what random search has at its end. Last, the seconds that a search of 10,000 candidates takes beside
their evaluation, checkpoints included. Prints Markdown; all but the seconds is deterministic.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tercet.flow.search.candidate import Candidate
from tercet.flow.search.loop import run
from tercet.flow.search.pareto import matrix
from tercet.flow.search.space import SearchSpec, Space
from tercet.flow.search.space_file import load_space
from tercet.flow.search.tabular import Table

SPACE = Path(__file__).with_name("table_space.toml")
BEHIND = 1.1  # the reference point, where the true front lies in 0..1
OVERHEAD = 10_000
POPULATIONS = (20, 100)
ALGORITHMS = ("random", "nsga2", "nsga3")

Floats = np.ndarray[Any, np.dtype[np.float64]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path, help="DIR/table.npz of search_table.py")
    parser.add_argument("--space", type=Path, default=SPACE, help="the SPACE.toml of the table")
    parser.add_argument("--seeds", type=int, default=30, help="default: 30")
    parser.add_argument("--evaluations", type=int, default=300, help="default: 300")
    options = parser.parse_args()
    table = Table.load(options.table, load_space(options.space))
    volume, seeds = Volume(table), range(options.seeds)
    print(f"{volume.candidates} candidates, {volume.front} on the true front")
    print(f"{options.evaluations} evaluations, seeds 0..{options.seeds - 1}; {versions()}\n")
    found = {
        name: np.array([curve(table, volume, name, seed, options.evaluations) for seed in seeds])
        for name in ALGORITHMS
    }
    print_comparison(found, table.space.search.population)
    print("\n| population | seconds of search without evaluation, 10,000 candidates |\n|---|---|")
    for population in POPULATIONS:
        print(f"| {population} | {overhead(table.space, population):.1f} |")


def versions() -> str:
    from importlib.metadata import version

    return ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "pymoo"))


class Volume:
    """Hypervolume of objectives [n, objectives] as a share of that of the table's true front."""

    def __init__(self, table: Table) -> None:
        from pymoo.indicators.hv import HV
        from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

        names = [table.names.index(name) for name in table.space.objectives]
        every = table.values.reshape(-1, len(table.names))[:, names]
        every = np.unique(every[~np.isnan(every).any(axis=1)], axis=0)
        best = every[NonDominatedSorting().do(every, only_non_dominated_front=True)]
        self.candidates, self.front = table.values.shape[0] * table.values.shape[1], len(best)
        self._low, self._high = best.min(axis=0), best.max(axis=0)
        self._indicator = HV(ref_point=np.full(best.shape[1], BEHIND))
        self._whole = 1.0
        self._whole = self(best)

    def __call__(self, values: Floats) -> float:
        span = np.where(self._high > self._low, self._high - self._low, 1.0)
        scaled = (values - self._low) / span
        inside = scaled[(scaled < BEHIND).all(axis=1)]
        return float(self._indicator(inside)) / self._whole if len(inside) else 0.0


def curve(table: Table, volume: Volume, algorithm: str, seed: int, evaluations: int) -> Floats:
    """Hypervolume after each generation of one search, [generations]."""
    spec = SearchSpec(algorithm, table.space.search.population, evaluations, seed)
    archive = run(replace(table.space, search=spec), table).archive
    good = [record for record in archive.records if record.feasible]
    values = matrix(good, table.space.objectives)
    number = np.array([record.generation for record in good])
    return np.array([volume(values[number <= last]) for last in range(archive.generations)])


def print_comparison(found: Mapping[str, Floats], population: int) -> None:
    """Each engine beside random search, pair by pair."""
    from scipy.stats import wilcoxon

    control = found["random"][:, -1]
    print("| engine | hypervolume, median | difference, median | wins | p | "
          "evaluations to random's end, median | reached by |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    for name, curves in found.items():
        final = curves[:, -1]
        if name == "random":
            print(f"| random | {np.median(final):.4f} | | | | {curves.shape[1] * population} | |")
            continue
        gain = final - control
        reached = [np.flatnonzero(c >= end) for c, end in zip(curves, control, strict=True)]
        needed = [population * (int(r[0]) + 1) if len(r) else np.inf for r in reached]
        got = sum(map(np.isfinite, needed))
        print(f"| {name} | {np.median(final):.4f} | {np.median(gain):+.4f} | "
              f"{(gain > 0).sum()} of {len(gain)} | {wilcoxon(gain).pvalue:.2g} | "
              f"{np.median(needed):.0f} | {got} of {len(gain)} |")  # fmt: skip


def overhead(space: Space, population: int) -> float:
    """Seconds of a search with a formula in place of the evaluation, less the formula's own; a
    checkpoint is written after each generation."""
    genes = tuple(
        replace(gene, choices=tuple(range(1, 33))) if gene.name.startswith("width") else gene
        for gene in space.genes
    )
    spec = SearchSpec("nsga2", population, OVERHEAD, seed=0)
    wide = replace(space, genes=genes, search=spec)
    with tempfile.TemporaryDirectory() as folder:
        return run(wide, formula, Path(folder) / "search").overhead_seconds


def formula(candidate: Candidate) -> dict[str, float]:
    """Objectives that pull against each other."""
    network = candidate.network
    channels = sum(stage.blocks * stage.width * stage.kernel for stage in network.stages)
    return {
        "error": 1 / channels,
        "vulnerable_bit_cycles": float(channels * candidate.interval),
        "luts": channels * network.weight_bits * 1000 / candidate.interval,
        "initiation_interval": float(candidate.interval + channels),
    }


if __name__ == "__main__":
    main()
