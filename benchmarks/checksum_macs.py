"""What checksums multiply and add beside each network of the zoo (S0: 17 % more operations).

    python benchmarks/checksum_macs.py [--network NAME ...] [--lanes 8]

Counted per layer as the algorithm does, for one frame: the filter form (F) multiplies one more
channel for each group of a convolution, the input form (X) each weight once. Columns: MACs of the
convolutions and dense layers; MACs of the checks over them in the form F, X and as `form = "auto"`
chooses; the same with the additions of the checks counted; layers to which "auto" gives the input
form. "auto" is the filter form up to 17 % of a layer's MACs, else the one that multiplies less; a
layer of one window, as a dense layer is, has the filter form only (X repeats it).

A folded layer checks group by group: its lane multiplies once for each `pe` channels. The last
column is "auto" with `--lanes` channels a group.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tercet.hw.linear_layer import BUDGET
from tercet.quant import shapes
from tercet.quant.importers.torch_module import import_torch
from tercet.quant.ir import Conv2d, Dense, Graph
from tercet.quant.models import zoo
from tercet.quant.quantize import QuantConfig, quantize

__all__ = ["Layer", "layers", "main", "share"]

FORMS = ("filter", "input", "auto")
FRAMES = 4  # for the ranges; nothing that is counted depends on them


@dataclass(frozen=True)
class Layer:
    """MACs of a layer, and (MACs, additions) of the check in either form."""

    name: str
    macs: int
    channels: int
    filter: tuple[int, int]
    input: tuple[int, int]
    windows: int

    @property
    def auto(self) -> str:
        """The form that "auto" takes."""
        cheap = self.filter[0] <= BUDGET * self.macs
        wanted = not cheap and self.windows > 1 and self.input[0] < self.filter[0]
        return "input" if wanted else "filter"

    def cost(self, form: str, lanes: int = 0) -> tuple[int, int]:
        """(MACs, additions) of the check in a form, with `lanes` channels in a sum (0: all)."""
        form = self.auto if form == "auto" else form
        macs, additions = self.filter if form == "filter" else self.input
        sums = -(-self.channels // lanes) if lanes and form == "filter" else 1
        return macs * sums, additions


def layers(graph: Graph) -> Iterator[Layer]:
    """The convolutions and dense layers of a graph."""
    sizes = shapes.infer(graph)
    for node in graph:
        if not isinstance(node, Conv2d | Dense):
            continue
        out, inner = node.out_channels, node.weight[0].size
        groups = node.groups if isinstance(node, Conv2d) else 1
        windows = int(np.prod(sizes[node.name])) // out
        results = out * windows
        yield Layer(
            node.name,
            macs=results * inner,
            channels=out // groups,
            filter=(groups * inner * windows, results),
            input=(out * inner, groups * inner * windows + results),
            windows=windows,
        )


def share(found: list[Layer], form: str, *, additions: bool = False, lanes: int = 0) -> float:
    """Operations of the checks over the MACs of the layers."""
    costs = [layer.cost(form, lanes) for layer in found]
    total = sum(macs + additions * adds for macs, adds in costs)
    return total / sum(layer.macs for layer in found)


def graph_of(name: str) -> Graph:
    """A network of the zoo with random weights."""
    module, _ = zoo.network(name)
    frames = zoo.synthetic(zoo.entry(name).input_shape, FRAMES)
    zoo.settle(module, frames)
    return quantize(import_torch(module, zoo.entry(name).input_shape), frames, QuantConfig())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="check operations of the zoo")
    parser.add_argument("--network", nargs="+", default=list(zoo.ZOO), choices=list(zoo.ZOO))
    parser.add_argument("--lanes", type=int, default=8)
    args = parser.parse_args()
    heads = ["MACs", *FORMS, *(f"{form} + adds" for form in FORMS), "X layers"]
    heads.append(f"auto, {args.lanes} a group")
    print(f"| network | {' | '.join(heads)} |")
    print("|---" * (len(heads) + 1) + "|")
    for name in args.network:
        found = list(layers(graph_of(name)))
        cells = [f"{sum(layer.macs for layer in found):,}"]
        for additions in (False, True):
            cells += [f"{share(found, form, additions=additions):.1%}" for form in FORMS]
        cells.append(f"{sum(layer.auto == 'input' for layer in found)} of {len(found)}")
        cells.append(f"{share(found, 'auto', lanes=args.lanes):.1%}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
