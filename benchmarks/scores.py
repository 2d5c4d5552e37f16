"""How well each criticality score predicts the measured one, on three trained networks.

Trains three classifiers of scikit-learn's digits (a chain, a residual and a separable network),
scores every neuron on the selection images, and compares with flips measured on test images that
no score has seen. Prints a table of Spearman correlations with the measured scores for each network
(and their mean within layers), then the share of the measured risk that the best neurons worth 10,
20 and 30 % of the MACs hold, beside random choices and an oracle. Deterministic; takes a few
minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np
from networks import trained

from tercet.quant import criticality, datasets, reference
from tercet.quant.ir import Graph
from tercet.quant.quantize import quantize_input

SEED = 0
SHARES = (0.1, 0.2, 0.3)
RANDOM = 100
BOOTSTRAP = 2000
PREDICTED = ("activation", "contribution", "class", "taylor", "combined")
Scores = Mapping[str, np.ndarray]


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation, equal values in the middle of their ranks."""
    from tercet.quant.criticality.scores import ranks

    first, second = ranks({"": a})[""], ranks({"": b})[""]
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def interval(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Percentile bootstrap over neurons, 95 %."""
    rng = np.random.default_rng(SEED)
    found = []
    for _ in range(BOOTSTRAP):
        pick = rng.integers(0, len(a), len(a))
        found.append(spearman(a[pick], b[pick]))
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def flat(scores: Scores) -> np.ndarray:
    return np.concatenate(list(scores.values()))


def held(risk: Scores, chosen: Mapping[str, list[int]]) -> float:
    """Share of the risk that the chosen neurons hold."""
    total = sum(float(values.sum()) for values in risk.values())
    return sum(float(risk[layer][neurons].sum()) for layer, neurons in chosen.items()) / total


def at_random(macs: Mapping[str, int], risk: Scores, share: float, seed: int) -> float:
    """Share of the risk in neurons taken in random order as long as they fit."""
    rng = np.random.default_rng([SEED, seed])
    keys = {layer: rng.random(len(values)) * macs[layer] for layer, values in risk.items()}
    return held(risk, criticality.choose(keys, macs, share))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--trials", type=int, default=20_000, help="flips of each neuron")
    parser.add_argument("--networks", nargs="+", default=("chain", "residual", "separable"))
    options = parser.parse_args()
    print(f"seed {SEED}, {options.epochs} epochs, {options.trials} flips a neuron; {versions()}\n")
    rows: list[str] = []
    for name in options.networks:
        graph = trained(name, seed=SEED, epochs=options.epochs)
        rows += compared(name, graph, options.trials)
    print("\n| network | chosen by | " + " | ".join(f"{share:.0%}" for share in SHARES) + " |")
    print("|---|---|" + "---|" * len(SHARES))
    print("\n".join(rows))


def versions() -> str:
    from importlib.metadata import version

    return ", ".join(f"{name} {version(name)}" for name in ("numpy", "torch", "scikit-learn"))


def compared(name: str, graph: Graph, trials: int) -> list[str]:
    """Print the correlations of one network; the rows of the second table."""
    data = datasets.digits(SEED)
    select, test = (quantize_input(graph, x) for x in (data.select_x, data.test_x))
    logits = reference.run(graph, test).reshape(len(test), -1)
    accuracy = float((logits.argmax(axis=1) == data.test_y).mean())
    found = {score: criticality.score(graph, select, score, seed=1) for score in PREDICTED}
    found |= {score: criticality.score(graph, select, score, seed=1) for score in ("msb",)}
    found["injection"] = criticality.neuron_scores(graph, select, seed=1, trials=trials)
    truth = criticality.neuron_scores(graph, test, seed=2, trials=trials)
    truth_msb = criticality.msb_scores(graph, test, seed=2)
    neurons = len(flat(truth))
    print(f"{name}: {neurons} neurons, test accuracy {accuracy:.3f}")
    print("| score | Spearman with injection | Spearman with msb | within layers |")
    print("|---|---|---|---|")
    for score, values in found.items():
        cells = []
        for measured in (truth, truth_msb):
            a, b = flat(values), flat(measured)
            low, high = interval(a, b)
            cells.append(f"{spearman(a, b):.2f} ({low:.2f}..{high:.2f})")
        inside = [spearman(values[layer], truth[layer]) for layer in truth]
        print(f"| {score} | {cells[0]} | {cells[1]} | {np.mean(inside):.2f} |", flush=True)
    return _selected(name, graph, found, truth)


def _selected(name: str, graph: Graph, found: Mapping[str, Scores], truth: Scores) -> list[str]:
    """Rows of the second table: the share of the measured risk that a choice holds."""
    macs = criticality.macs_per_neuron(graph)
    real = criticality.risk(truth, macs)
    rows = []
    for score, values in ({"oracle": truth} | found).items():
        worth = criticality.risk(values, macs)
        shares = [held(real, criticality.choose(worth, macs, share)) for share in SHARES]
        rows.append(_row(name, score, shares))
    apart = found["injection"]
    shares = [held(real, criticality.choose(apart, macs, share)) for share in SHARES]
    rows.append(_row(name, "injection, not times MACs", shares))
    draws = [[at_random(macs, real, share, i) for i in range(RANDOM)] for share in SHARES]
    rows.append(_row(name, "random, mean", [float(np.mean(one)) for one in draws]))
    rows.append(_row(name, "random, 95th percentile", [float(np.quantile(d, 0.95)) for d in draws]))
    return rows


def _row(name: str, what: str, shares: list[float]) -> str:
    return f"| {name} | {what} | " + " | ".join(f"{share:.1%}" for share in shares) + " |"


if __name__ == "__main__":
    main()
