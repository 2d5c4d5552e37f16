"""How fast estimates are: one `tercet estimate` as a process, and many foldings in one process.

Shows seconds of the command on a digits network (asked: below 0.5) and candidates a second with
distinct foldings and with distinct widths (asked: 500), median of three rounds.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tercet.flow.estimator import estimate
from tercet.hw.configure import Fold
from tercet.quant import serialize
from tercet.quant.ir import Conv2d, Dense, Flatten, Graph, MaxPool, Requantize, TensorType

ROUNDS = 3
CANDIDATES = 200
ACT = TensorType(8, False)


def network(first: int, second: int, rng: np.random.Generator) -> Graph:
    """8x8 image, two convolutions with pools, one dense layer: the shape of the digits demo."""

    def conv(name: str, source: str, inputs: int, outputs: int) -> Conv2d:
        table = Requantize(rng.integers(1 << 15, 1 << 16, outputs), np.full(outputs, 25), ACT)
        weight = rng.integers(-127, 128, (outputs, 3, 3, inputs))
        bias = rng.integers(-999, 999, outputs)
        return Conv2d(
            name=name, inputs=(source,), weight=weight, bias=bias, padding=(1,) * 4,
            requantize=table,
        )  # fmt: skip

    nodes = (
        conv("conv1", "x", 1, first),
        MaxPool(name="pool1", inputs=("conv1",), kernel=(2, 2), stride=(2, 2)),
        conv("conv2", "pool1", first, second),
        MaxPool(name="pool2", inputs=("conv2",), kernel=(2, 2), stride=(2, 2)),
        Flatten(name="flat", inputs=("pool2",)),
        Dense(
            name="fc",
            inputs=("flat",),
            weight=rng.integers(-127, 128, (10, 4 * second)),
            bias=rng.integers(-999, 999, 10),
        ),
    )
    return Graph("digits", "x", (8, 8, 1), ACT, nodes, "fc")


def foldings(graph: Graph, count: int, rng: np.random.Generator) -> list[dict[str, Fold]]:
    """Random divisors for every layer."""

    def divisor(n: int) -> int:
        return int(rng.choice([d for d in range(1, n + 1) if n % d == 0]))

    linear = [node for node in graph if isinstance(node, Conv2d | Dense)]
    found = []
    for _ in range(count):
        fold = {n.name: Fold(divisor(n.out_channels), divisor(n.weight[0].size)) for n in linear}
        found.append({**fold, "pool1": Fold(divisor(8)), "pool2": Fold(divisor(16))})
    return found


def command_seconds(graph: Graph) -> float:
    """Wall time of `tercet estimate graph.json` as a process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.json"
        serialize.save(graph, path)
        tercet = Path(sys.executable).with_name("tercet")
        started = time.perf_counter()
        subprocess.run([tercet, "estimate", path, "--json"], check=True, capture_output=True)
        return time.perf_counter() - started


def rate(candidates: list[tuple[Graph, dict[str, Fold]]]) -> float:
    """Estimates a second."""
    started = time.perf_counter()
    for graph, folding in candidates:
        estimate(graph, folding=folding)
    return len(candidates) / (time.perf_counter() - started)


def main() -> None:
    """Print the three figures."""
    rng = np.random.default_rng(0)
    graph = network(8, 16, rng)
    rates, widths, seconds = [], [], []
    for _ in range(ROUNDS):
        rates.append(rate([(graph, folding) for folding in foldings(graph, CANDIDATES, rng)]))
        graphs = [network(8 * int(a), 16 * int(b), rng) for a, b in rng.integers(1, 4, (50, 2))]
        widths.append(rate([(g, foldings(g, 1, rng)[0]) for g in graphs]))
        seconds.append(command_seconds(graph))
    print(f"tercet estimate graph.json   {statistics.median(seconds):6.2f} s")
    print(f"distinct foldings, one graph {statistics.median(rates):6.0f} a second")
    print(f"distinct widths and foldings {statistics.median(widths):6.0f} a second")


if __name__ == "__main__":
    main()
