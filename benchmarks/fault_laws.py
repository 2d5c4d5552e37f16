"""Every fault law on the demo's digits network: measured rate beside its formula; engine speed.

A row is an event of a law: how often it came in so many draws, Wilson's interval at 95 %, and the
formula's probability. Then (fault, input) pairs that the software engine classifies in a second of
processor time, single flips of each kind of word. Deterministic but for the speed; no options.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from tercet.quant import datasets
from tercet.quant.faults import (
    BitBias,
    BitErrors,
    Law,
    Mibb,
    PermanentPe,
    StuckBits,
    StuckCells,
    Tensor,
    TensorFaults,
    draw,
)
from tercet.quant.faults.laws import Target, targets
from tercet.quant.faults.single import single_bits
from tercet.quant.ir import Graph
from tercet.quant.models.digits import digits_network
from tercet.quant.quantize import quantize_input
from tercet.sim.engines.software import SoftwareEngine
from tercet.sim.statistics import wilson

SEED = 0
INFERENCES = 2000
PAIRS = 100_000
INPUTS = 32

Row = tuple[str, int, int, float]


def main() -> None:
    graph = digits_network(SEED)
    print(f"{'law':34} {'layer':6} {'event':22} {'measured':>9} {'95 %':>19} {'formula':>9}")
    for law in LAWS:
        for target in targets(graph):
            if law.strikes(target):
                found = draw(law, graph, np.zeros(INFERENCES, np.int64), seed=SEED,
                             layers=[target.name])  # fmt: skip
                for event, hits, trials, formula in rows(law, target, found):
                    low, high = wilson(hits, trials)
                    print(f"{name(law):34} {target.name:6} {event:22} {hits / trials:9.6f} "
                          f"{low:9.6f}..{high:8.6f} {formula:9.6f}")  # fmt: skip
    speed(graph)


LAWS: tuple[Law, ...] = (
    Mibb(1e-4),
    BitBias(1e-4),
    PermanentPe(1e-4, 4),
    BitErrors(1e-4, Tensor.WEIGHT),
    BitErrors(1e-4, Tensor.BIAS),
    BitErrors(1e-4, Tensor.ACTIVATION),
    StuckCells(),
    StuckBits(),
)


def name(law: Law) -> str:
    match law:
        case BitErrors():
            return f"BER {law.rate:g} of {law.tensor.name.lower()} bits"
        case Mibb():
            return f"{'iBB' if isinstance(law, BitBias) else 'MiBB'} p_m = {law.rate:g}"
        case PermanentPe():
            return f"permanent PE p0 = {law.rate:g}, {law.parallel} a sum"
        case StuckCells():
            return f"adSAF all {law.rate:g}, SAF1 {law.share:g}"
        case StuckBits():
            return f"adSAF bit {law.rate:g}, at one {law.ones:g}"
    return type(law).__name__


def rows(law: Law, target: Target, found: TensorFaults) -> Iterator[Row]:
    """(event, times it came, draws, formula)."""
    match law:
        case Mibb() | PermanentPe():
            trials = INFERENCES * target.elements
            yield "element hit", len(found.index), trials, law.probability(target)
            if len(found.index):
                positive = int((found.value > 0).sum())
                yield "positive", positive, len(found.index), sign_formula(law, target)
        case BitErrors():
            words, bits = law.size(target)
            flips = sum(int(((found.value >> bit) & 1).sum()) for bit in range(bits))
            yield "bit flipped", flips, INFERENCES * words * bits, law.rate
        case StuckCells() | StuckBits():
            yield from weight_rows(law, target, found)


def sign_formula(law: Law, target: Target) -> float:
    """One half; a permanent fault's positive bias below 1 is rounded down to nothing."""
    if not isinstance(law, PermanentPe):
        return 0.5
    _, macs, more = law.contributions(target)
    bits = target.kind.bits + more
    return 0.5 * sum(macs >> -k > 0 if k < 0 else 1 for k in range(-more, target.kind.bits)) / bits


def weight_rows(law: StuckCells | StuckBits, target: Target, found: TensorFaults) -> Iterator[Row]:
    """Of the positive weights below the largest: what they become."""
    before = np.tile(target.linear.weight.ravel(), (INFERENCES, 1))
    after = before.copy()
    after[found.experiment, found.index] = found.value
    largest = np.abs(before).max()
    some = (before > 0) & (before < largest)
    total = int(some.sum())
    if isinstance(law, StuckBits):
        bits = target.linear.weight_bits - 1
        zero = before == 0
        if zero.any():
            equal = (law.rate * law.ones) ** 2 + (1 - law.rate * law.ones) ** 2
            yield "0 stays 0", int((after == 0)[zero].sum()), int(zero.sum()), equal**bits
        return
    one, zero_rate = law.rate * law.share, law.rate * (1 - law.share)
    yield "w > 0 becomes M", int((after == largest)[some].sum()), total, one * (1 - one)
    moved = (after == before - largest)[some]
    yield "w > 0 becomes w - M", int(moved.sum()), total, one * (1 - law.rate)
    gone = (after == 0)[some]
    yield "w > 0 becomes 0", int(gone.sum()), total, zero_rate * (1 - one) + one * one
    changed = (after != before)[some]
    yield "w > 0 changes", int(changed.sum()), total, 1 - (1 - law.rate) * (1 - one)


def speed(graph: Graph) -> None:
    x = quantize_input(graph, datasets.digits(SEED).test_x)[:INPUTS]
    engine, frame = SoftwareEngine(graph, x), np.arange(PAIRS) % INPUTS
    print(f"\n{'single flips':14} {'pairs a CPU second':>18}")
    for kind in (k for k in Tensor if k != Tensor.PREACTIVATION):
        faults = single_bits(graph, frame, kind, seed=SEED)
        began = time.process_time()
        engine.run(faults)
        print(f"{kind.name.lower():14} {PAIRS / (time.process_time() - began):18,.0f}")


if __name__ == "__main__":
    main()
