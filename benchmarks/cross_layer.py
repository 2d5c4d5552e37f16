"""The demo's digits network in the integer graph and in its circuit: the same faults, side by side.

Prints three tables: disagreements of upsets that are exactly one change of one word; predicted and
measured outcomes by layer, role and bit; and what upsets of product and accumulator registers do to
a layer's result, beside what the MiBB law assumes. Deterministic; needs no options.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from tercet.flow.builder import build_design
from tercet.flow.demo import folding
from tercet.flow.design import prepare
from tercet.quant import datasets, reference
from tercet.quant.ir import Conv2d, Dense, Graph
from tercet.quant.models.digits import digits_network
from tercet.quant.quantize import quantize_input
from tercet.sim.cross_layer import Comparison, CrossLayer, Upsets
from tercet.sim.outcomes import Outcome
from tercet.sim.statistics import wilson
from tercet.sim.testbed import StreamTestbed

SEED = 0
INPUTS = 32
BITS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=20_000, help="upsets of the whole network")
    parser.add_argument("--alone", type=int, default=20_000, help="upsets of each layer by itself")
    options = parser.parse_args()
    graph = digits_network(SEED)
    x = quantize_input(graph, datasets.digits(SEED).test_x)[:INPUTS]
    with tempfile.TemporaryDirectory() as work:
        cross = built(graph, Path(work) / "network", x)
        upsets = cross.draw(options.faults, SEED)
        found = cross.compare(upsets)
        print_agreement(cross, upsets, found)
        print_bits(cross, upsets, found)
        tensors = reference.execute(graph, x)
        print_law_head()
        for node in graph:
            if isinstance(node, Conv2d | Dense):
                frames = tensors[node.inputs[0]]
                alone = built(part(graph, node, tensors), Path(work) / node.name, frames)
                print_law(node, alone, options.alone)


def built(graph: Graph, out: Path, frames: np.ndarray) -> CrossLayer:
    known = folding(digits_network(SEED))
    names = {node.name for node in graph}
    design = prepare(graph, {name: fold for name, fold in known.items() if name in names})
    build_design(design, out, frames=frames)
    return CrossLayer(StreamTestbed.open(out, inputs=INPUTS))


def part(graph: Graph, node: Conv2d | Dense, tensors: dict[str, np.ndarray]) -> Graph:
    """One layer as a network: its output words are its results."""
    source = node.inputs[0]
    kinds = {n.name: n for n in graph}
    kind = graph.input_type
    while source != graph.input_name:
        made = getattr(kinds[source], "requantize", None)
        if made is not None:
            kind = made.out
            break
        source = kinds[source].inputs[0]
    shape = tensors[node.inputs[0]].shape[1:]
    return Graph(node.name, node.inputs[0], shape, kind, (node,), node.name)


def print_agreement(cross: CrossLayer, upsets: Upsets, found: Comparison) -> None:
    owner = [cross.testbed.registers[r] for r in upsets.register]
    print(
        f"upsets that are tensor faults: {len(upsets)}, disagreements {int((~found.agrees).sum())}"
    )
    print(f"{'layer':8} {'role':12} {'upsets':>7} {'wrong':>6} {'critical':>8} {'disagree':>8}")
    for layer, role in sorted({(r.layer, r.role) for r in owner}):
        mine = np.array([(r.layer, r.role) == (layer, role) for r in owner])
        counts = np.bincount(found.measured[mine], minlength=len(Outcome))
        critical, wrong = counts[Outcome.SDC_CRITICAL], counts[Outcome.SDC_TOLERABLE :].sum()
        odd = int((~found.agrees[mine]).sum())
        print(f"{layer:8} {role:12} {int(mine.sum()):7} {wrong:6} {critical:8} {odd:8}")


def print_bits(cross: CrossLayer, upsets: Upsets, found: Comparison) -> None:
    """Rows of one kind of word; a weight register holds several weights, a drain register sums."""
    print("\nwrong outputs of upsets by bit of the word, predicted / measured")
    owner = [cross.testbed.registers[r] for r in upsets.register]
    kinds = [(r.layer, r.role if r.role != "product" else r.name.split(".")[2]) for r in owner]
    kinds = [(layer, kind.split("_")[0]) for layer, kind in kinds]
    drain = np.array([r.name.endswith(".results") for r in owner])
    for layer, kind in sorted(set(kinds)):
        mine = np.array([pair == (layer, kind) for pair in kinds]) & ~drain
        node = cross.graph.node(layer)
        assert isinstance(node, Conv2d | Dense)
        bit = upsets.bit[mine] % (node.weight_bits if kind == "weight" else 64)
        cells = []
        for place in range(int(bit.max()) + 1):
            pair = [
                int((column[mine][bit == place] != Outcome.MASKED).sum())
                for column in (found.predicted, found.measured)
            ]
            cells.append(f"{place}: {pair[0]}/{pair[1]} of {int((bit == place).sum())}")
        print(f"{layer} {kind}: " + ", ".join(cells))


def print_law_head() -> None:
    print("\nupsets of product and accumulator registers of one layer as a circuit of its own")


def print_law(node: Conv2d | Dense, cross: CrossLayer, count: int) -> None:
    """Elements hit and differences as the circuit delivers them; before the activation as the
    integer graph says, which agrees with the circuit in every word after it."""
    upsets = cross.draw(count, SEED, ("product", "accumulator"))
    found = cross.compare(upsets)
    golden = cross.engine.words[upsets.faults.frame]
    changed = (found.words != golden).reshape(len(golden), -1).sum(axis=1)
    hits = Counter(changed.tolist())
    low, high = wilson(int((changed > 0).sum()), len(changed))
    before = cross.differences(upsets)[1]
    print(f"\n{node.name}: {len(upsets)} upsets, disagreements {int((~found.agrees).sum())}")
    print(f"  elements of the result changed per upset: {dict(sorted(hits.items()))}"
          f"  P(any) {(changed > 0).mean():.4f} ({low:.4f}..{high:.4f})")  # fmt: skip
    after = (found.words - golden).reshape(len(golden), -1).sum(axis=1)[changed == 1]
    bits = cross.engine.layers.types[node.name].bits
    for what, values in (("after the activation, circuit", after), ("before it", before)):
        size = np.abs(values)
        power = np.floor(np.log2(size)).astype(int)
        shares = [f"{k}: {(power == k).mean():.3f}" for k in range(bits)]
        exact = float(((size & (size - 1)) == 0).mean())
        print(f"  {what} ({len(values)}): positive {float((values > 0).mean()):.3f}, "
              f"+-2^k exactly {exact:.3f}")  # fmt: skip
        print(f"    log2 of the size, rounded down: {', '.join(shares)}")
    print(f"  MiBB: positive 0.5, +-2^k exactly 1, each of 0..{bits - 1}: {1 / bits:.3f}")


if __name__ == "__main__":
    main()
