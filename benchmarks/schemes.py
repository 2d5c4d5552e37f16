"""Two quantisation schemes under bit flips: scales that are powers of two against fitted scales.

Trains six classifiers of scikit-learn's digits, quantises each with both schemes at equal bits, and
flips stored bits of weights, and of feature maps, independently at seven bit error rates (BER):
each test image is one inference with its own flips, ten times. CCR is the share of inferences whose
top-1 differs from the fault-free one. Per network and fault seed: the BER at which the CCR is 1 %
(straight line in logarithms, ends of the range where it is not crossed), and the mean logarithm of
the CCR. Pairs are (network, fault seed): Wilcoxon's signed-rank test with Holm's correction over
the eight rows, rank-biserial correlation, and the ratio of the BERs (geometric mean, interval from
resampling networks, then seeds). Prints Markdown. Deterministic; about five minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
from networks import floating

from tercet.quant import datasets, ranges, reference
from tercet.quant.faults import BitErrors, Tensor, draw
from tercet.quant.float_graph import FloatGraph
from tercet.quant.ir import Conv2d, Dense, Graph
from tercet.quant.quantize import QuantConfig, quantize, quantize_input
from tercet.sim.engines.software import SoftwareEngine
from tercet.sim.outcomes import Outcome

NETWORKS = (
    ("chain", 4), ("chain", 12), ("residual", 8), ("residual", 16), ("separable", 8),
    ("branches", 8),
)  # fmt: skip
SCHEMES = ("scale", "pow2")
TENSORS = {"feature maps": Tensor.ACTIVATION, "weights": Tensor.WEIGHT}
RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
CHANGED = 0.01  # the CCR at which schemes are compared
BOOTSTRAP = 4000

Floats = np.ndarray[Any, np.dtype[np.float64]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="fault seeds (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the training (default: 0)")
    parser.add_argument("--bits", type=int, nargs="+", default=(8, 4), help="default: 8 4")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.seeds} fault seeds; {versions()}\n")
    floats = {
        f"{name} {width}": floating(name, width=width, seed=options.seed)
        for name, width in NETWORKS
    }
    print("| network | bits | scheme | accuracy | range used, weights | feature maps |")
    print("|---|---|---|---|---|---|")
    curves: dict[tuple[int, str], Floats] = {}
    for bits in options.bits:
        found = {
            tensor: np.empty((len(floats), 2, options.seeds, len(RATES))) for tensor in TENSORS
        }
        for i, (name, graph) in enumerate(floats.items()):
            for j, scheme in enumerate(SCHEMES):
                for tensor, rates in measured(name, graph, bits, scheme, options.seeds):
                    found[tensor][i, j] = rates
        curves |= {(bits, tensor): rates for tensor, rates in found.items()}
    print_curves(curves)
    print_comparison(curves)


def versions() -> str:
    from importlib.metadata import version

    names = ("numpy", "scipy", "torch", "scikit-learn")
    return ", ".join(f"{name} {version(name)}" for name in names)


def measured(
    name: str, network: FloatGraph, bits: int, scheme: str, seeds: int
) -> Iterator[tuple[str, Floats]]:
    """CCR [seeds, rates] of each tensor; prints the row of the quantised network."""
    data = datasets.digits()
    config = QuantConfig(weight_bits=bits, act_bits=bits, scheme=scheme)
    graph = quantize(network, data.calibration_x, config)
    images = quantize_input(graph, data.test_x)
    used = used_ranges(graph, quantize_input(graph, data.calibration_x))
    engine, frame = SoftwareEngine(graph, images), np.arange(len(images))
    logits = engine.words.reshape(len(images), -1)
    accuracy = float((logits.argmax(axis=1) == data.test_y).mean())
    print(f"| {name} | {bits} | {scheme} | {accuracy:.3f} | {used[0]:.2f} | {used[1]:.2f} |",
          flush=True)  # fmt: skip
    for tensor, kind in TENSORS.items():
        rates = np.empty((seeds, len(RATES)))
        for seed in range(seeds):
            for k, rate in enumerate(RATES):
                law = BitErrors(rate, kind)
                faults = draw(law, graph, frame, seed=seed * len(RATES) + k)
                outcome = engine.run(faults).outcome
                rates[seed, k] = (outcome == Outcome.SDC_CRITICAL).mean()
        yield tensor, rates


def used_ranges(graph: Graph, images: np.ndarray) -> tuple[float, float]:
    """Largest code in use over the largest there is: mean over layers of weights (each output
    channel by itself), and of stored results on `images`, the output left out."""
    values, kinds = reference.execute(graph, images), ranges.types(graph)
    weights, maps = [], []
    for node in graph:
        if isinstance(node, Conv2d | Dense):
            peak = np.abs(node.weight).reshape(node.out_channels, -1).max(axis=1)
            weights.append(float(peak.mean()) / (2 ** (node.weight_bits - 1) - 1))
            if node.name != graph.output:
                maps.append(float(np.abs(values[node.name]).max()) / kinds[node.name].hi)
    return float(np.mean(weights)), float(np.mean(maps))


def ber_at(curve: Floats) -> float:
    """log10 of the BER at which a curve [rates] first reaches `CHANGED`; an end of the range where
    it starts above or stays below. A rate of zero counts as half an event."""
    x, y = np.log10(RATES), logarithm(curve)
    above = np.flatnonzero(y >= np.log10(CHANGED))
    if not len(above):
        return float(x[-1])
    k = int(above[0])
    if k == 0:
        return float(x[0])
    share = (np.log10(CHANGED) - y[k - 1]) / (y[k] - y[k - 1])
    return float(x[k - 1] + share * (x[k] - x[k - 1]))


def logarithm(curve: Floats) -> Floats:
    return np.asarray(np.log10(np.maximum(curve, 0.5 / len(datasets.digits().test_x))))


def print_curves(curves: dict[tuple[int, str], Floats]) -> None:
    """Mean CCR over networks and seeds."""
    print("\nCCR, mean over networks and fault seeds:\n")
    print("| bits | flips in | scheme | " + " | ".join(f"{rate:g}" for rate in RATES) + " |")
    print("|---|---|---|" + "---|" * len(RATES))
    for (bits, tensor), rates in curves.items():
        for j, scheme in enumerate(SCHEMES):
            cells = " | ".join(f"{value:.2%}" for value in rates[:, j].mean(axis=(0, 1)))
            print(f"| {bits} | {tensor} | {scheme} | {cells} |")


def print_comparison(curves: dict[tuple[int, str], Floats]) -> None:
    """The paired comparison. A gain above 1 speaks for fitted scales: BER of scale over that of
    pow2, CCR of pow2 over that of scale."""
    rows = []
    for (bits, tensor), rates in curves.items():
        bers = np.apply_along_axis(ber_at, 3, rates)
        means = logarithm(rates).mean(axis=3)
        crossed = (rates >= CHANGED).any(axis=3) & (rates[..., 0] < CHANGED)
        gains = {
            "BER at 1 % CCR": bers[:, 0] - bers[:, 1],
            "mean log CCR": means[:, 1] - means[:, 0],
        }
        for what, gain in gains.items():
            rows.append(([bits, tensor, what], gain, float(crossed.mean())))
    adjusted = holm([wilcoxon(gain) for _, gain, _ in rows])
    print("\n| bits | flips in | compared | pairs | crossed | scale better | networks | "
          "gain of scale (95 %) | rank-biserial | p, Holm |")  # fmt: skip
    print("|" + "---|" * 10)
    for (names, gain, crossed), p in zip(rows, adjusted, strict=True):
        low, high = interval(gain)
        wins, nets = int((gain > 0).sum()), int((gain.mean(axis=1) > 0).sum())
        effect = f"{10 ** gain.mean():.2f} ({10**low:.2f}..{10**high:.2f})"
        print(f"| {names[0]} | {names[1]} | {names[2]} | {gain.size} | {crossed:.0%} | {wins} | "
              f"{nets} of {len(gain)} | {effect} | {biserial(gain):+.2f} | {p:.2g} |")  # fmt: skip


def wilcoxon(gain: Floats) -> float:
    """Two-sided p of the signed-rank test over all pairs."""
    from scipy.stats import wilcoxon as test

    return float(test(gain.ravel()).pvalue) if gain.any() else 1.0


def biserial(gain: Floats) -> float:
    """Matched-pairs rank-biserial correlation, -1..1 (D. Kerby, Comprehensive Psychology 2014)."""
    from scipy.stats import rankdata

    some = gain[gain != 0]
    rank = rankdata(np.abs(some))
    return float((rank * np.sign(some)).sum() / rank.sum()) if len(some) else 0.0


def holm(p: list[float]) -> list[float]:
    """Holm's step-down correction."""
    order, found, least = np.argsort(p), np.empty(len(p)), 0.0
    for k, i in enumerate(order):
        least = max(least, min(1.0, (len(p) - k) * p[i]))
        found[i] = least
    return [float(value) for value in found]


def interval(gain: Floats) -> tuple[float, float]:
    """Percentile bootstrap of the mean of `gain` [networks, seeds], networks first, 95 %."""
    rng = np.random.default_rng(0)
    nets, seeds = gain.shape
    net = rng.integers(0, nets, (BOOTSTRAP, nets, 1))
    seed = rng.integers(0, seeds, (BOOTSTRAP, nets, seeds))
    low, high = np.quantile(gain[net, seed].mean(axis=(1, 2)), (0.025, 0.975))
    return float(low), float(high)


if __name__ == "__main__":
    main()
