"""Print what TMR costs in space and in time: weights stored, cycles, estimated resources.

The trained digits network, automatic folding or that of `--fps`; shares of the MACs by injection
scores. In space a hardened lane stores its weights three times, in time a hardened pass is computed
three times: the trade-off of S4. Seconds; nothing is synthesised.
"""

from __future__ import annotations

import argparse

from tercet.flow import targets
from tercet.flow.design import Design, arrange
from tercet.flow.estimator import estimate_design
from tercet.flow.folding import Goal
from tercet.flow.goals import folded_design
from tercet.flow.plan import Plan, Settings, Tmr, protect
from tercet.hw.linear_config import LinearConfig
from tercet.quant.datasets import digits
from tercet.quant.models.digits import digits_network
from tercet.quant.quantize import quantize_input

SHARES = (0.1, 0.2, 0.5, 1.0)
MODES = {"space": Tmr(), "space, three voters": Tmr(voters=3), "time": Tmr(mode="temporal")}
FRAMES = 48


def stored(design: Design) -> int:
    """Bits of all weight memories, copies of replicas included."""
    total = 0
    for layer in design.layers:
        if isinstance(layer, LinearConfig):
            lanes = layer.pe + 2 * len(layer.replicated)
            total += lanes * layer.weight[:, 0].size * layer.weight_bits
    return total


def hardened(design: Design) -> str:
    """Lanes that are tripled and passes that are repeated, of all."""
    layers = [layer for layer in design.layers if isinstance(layer, LinearConfig)]
    lanes, passes = sum(len(x.replicated) for x in layers), sum(len(x.repeated) for x in layers)
    if passes:
        return f"{passes} of {sum(layer.weight.shape[0] for layer in layers)} passes"
    return f"{lanes} of {sum(layer.pe for layer in layers)} lanes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", default=targets.DEFAULT)
    parser.add_argument("--fps", type=float, help="fold for this rate (default: automatic)")
    options = parser.parse_args()
    target = targets.find(options.target)
    graph = digits_network(seed=0)
    x = quantize_input(graph, digits().train_x)[:FRAMES]
    plain = folded_design(graph, target, Goal("auto", options.fps, None, None), Plan(), x)
    base = stored(plain)
    print(f"{graph.name}, {target.name}, folding", end=" ")
    print(", ".join(f"{name} {fold.pe} x {fold.simd}" for name, fold in plain.folding.items()))
    print("\n| TMR | share | hardened | weights stored | interval | latency | LUT | FF | BRAM |")
    print("|---|---|---|---|---|---|---|---|---|")
    chosen = [("none", None, plain)]
    for share in SHARES:
        for name, tmr in MODES.items():
            plan = Plan(Settings(tmr=Tmr(share=share, mode=tmr.mode, voters=tmr.voters)))
            design = arrange(graph, plain.folding, plan, protect(plan, graph, x))
            chosen.append((name, share, design))
    for name, share, design in chosen:
        cost, timing = estimate_design(design, target), design.timing()
        print(
            f"| {name} | {'' if share is None else f'{share:.0%}'} | {hardened(design)} "
            f"| x {stored(design) / base:.2f} | {timing.initiation_interval:,} "
            f"| {timing.latency_cycles:,} | {cost['luts']:,} | {cost['ffs']:,} | {cost['brams']} |"
        )


if __name__ == "__main__":
    main()
