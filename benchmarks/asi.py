"""R-ASI against the measured classification change rate, over networks of nearly equal accuracy.

Reads the table that `search_table.py` wrote and takes the networks whose error on the selection
images is within `--window` of the best. For R-ASI's three forms, and for what any size of a network
would predict (parameters, MACs, depth, R-ADCR): Spearman's rank correlation with the change rate
under one flipped bit of a feature map (what R-ASI per fault is about), bit errors in feature maps
(what R-ASI per BER is about) and in weights (95 % percentile bootstrap over networks), and the
partial rank correlation given log(parameters), MACs and depth. A form fails where an interval holds
0, or has the wrong sign. Prints Markdown. Deterministic.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tercet.flow.search.space_file import load_space
from tercet.flow.search.tabular import Table
from tercet.flow.search.tabular_rows import SINGLE, STRIKES

SPACE = Path(__file__).with_name("table_space.toml")
FORMS = ("asi_per_fault", "asi_per_ber", "asi_worst")
GIVEN = ("parameters", "macs", "depth")
BOOTSTRAP = 2000
FEWEST = 60

Limits = tuple[float, float, float]
"""A value and its interval."""
Floats = np.ndarray[Any, np.dtype[np.float64]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path, help="DIR/table.npz of search_table.py")
    parser.add_argument("--space", type=Path, default=SPACE, help="the SPACE.toml of the table")
    parser.add_argument("--window", type=float, default=0.02, help="of error (default: 0.02)")
    options = parser.parse_args()
    columns = Table.load(options.table, load_space(options.space)).columns
    error = columns["error"]
    near = error <= error.min() + options.window + 1e-9
    chosen = {name: values[near] for name, values in columns.items()}
    print(f"{near.sum()} of {len(near)} networks within {100 * options.window:g} points of the "
          f"lowest error {error.min():.4f}; {versions()}")  # fmt: skip
    if near.sum() < FEWEST:
        print(f"fewer than {FEWEST} networks: widen --window")
    for rate in (SINGLE, *STRIKES):
        found = chosen[rate]
        print(f"\n{rate}: change rate {found.min():.4f}..{found.max():.4f}, median "
              f"{np.median(found):.4f}\n")  # fmt: skip
        print_rows(chosen, rate)


def versions() -> str:
    from importlib.metadata import version

    return ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy"))


def print_rows(chosen: dict[str, Floats], rate: str) -> None:
    """One row for each predictor."""
    print("| predictor | Spearman (95 %) | partial, given log(parameters), MACs, depth (95 %) | |")
    print("|---|---|---|---|")
    given = np.stack([chosen[name] for name in GIVEN], axis=1)
    for name in (*FORMS, "adcr", *GIVEN):
        a, b = chosen[name], chosen[rate]
        plain = interval(lambda i, a=a, b=b: spearman(a[i], b[i]), len(a))
        cells = [f"| {name} | {shown(plain)}"]
        if name in GIVEN:
            cells += ["", ""]
        else:
            rest = interval(lambda i, a=a, b=b: partial(a[i], b[i], given[i]), len(a))
            cells += [shown(rest), judged(plain, rest) if name in FORMS else ""]
        print(" | ".join(cells) + " |")


def judged(plain: Limits, rest: Limits) -> str:
    """What a form of R-ASI tells of a network, by both intervals."""
    if plain == (0, 0, 0):
        return "fails: does not vary"
    if plain[2] < 0:
        return "fails: the wrong sign"
    if plain[1] <= 0:
        return "fails: no correlation"
    return "holds" if rest[1] > 0 else "fails beyond size"


def spearman(a: Floats, b: Floats) -> float:
    """Rank correlation; 0 where one side does not vary."""
    return correlation(ranks(a), ranks(b))


def ranks(values: Floats) -> Floats:
    from scipy.stats import rankdata

    return np.asarray(rankdata(values, axis=0))


def correlation(a: Floats, b: Floats) -> float:
    """Pearson's; 0 where one side does not vary (up to rounding)."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum() / scale) if scale > 1e-9 * len(a) else 0.0


def partial(a: Floats, b: Floats, given: Floats) -> float:
    """Correlation of what a least-squares fit of the ranks of `given` [n, k] leaves of both."""
    basis = np.column_stack([np.ones(len(a)), ranks(given)])
    both = np.column_stack([ranks(a), ranks(b)])
    rest = both - basis @ np.linalg.lstsq(basis, both, rcond=None)[0]
    return correlation(rest[:, 0], rest[:, 1])


def interval(statistic: Callable[[Any], float], count: int) -> Limits:
    """The statistic of all networks, and its percentile bootstrap over them, 95 %."""
    rng = np.random.default_rng(0)
    found = [statistic(rng.integers(0, count, count)) for _ in range(BOOTSTRAP)]
    low, high = np.quantile(found, (0.025, 0.975))
    return statistic(np.arange(count)), float(low), float(high)


def shown(found: Limits) -> str:
    return f"{found[0]:+.2f} ({found[1]:+.2f}..{found[2]:+.2f})"


if __name__ == "__main__":
    main()
