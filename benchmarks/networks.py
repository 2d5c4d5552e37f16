"""Small classifiers of scikit-learn's digits for the benchmarks, trained on the spot."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from tercet.quant import datasets, ir
from tercet.quant.float_graph import FloatGraph
from tercet.quant.importers.torch_module import import_torch
from tercet.quant.quantize import QuantConfig, quantize
from tercet.quant.train import train

__all__ = ["NETWORKS", "floating", "trained", "with_argmax"]


def chain(width: int = 8) -> Any:
    """Two convolutions with pools between, a dense layer."""
    from tercet.quant.models.digits import digits_net

    return digits_net((width, 2 * width))


def _unit(inputs: int, outputs: int, *, groups: int = 1, kernel: int = 3, relu: bool = True) -> Any:
    from torch import nn

    parts = [
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*parts, *([nn.ReLU()] if relu else []))


def residual(width: int = 12) -> Any:
    """A convolution, two residual blocks, the mean of the image, a dense layer."""
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.pool = _unit(1, width), nn.MaxPool2d(2)
            self.a1, self.a2 = _unit(width, width), _unit(width, width, relu=False)
            self.b1, self.b2 = _unit(width, width), _unit(width, width, relu=False)
            self.relu_a, self.relu_b = nn.ReLU(), nn.ReLU()
            self.mean, self.flat = nn.AdaptiveAvgPool2d(1), nn.Flatten()
            self.fc = nn.Linear(width, 10)

        def forward(self, x: Any) -> Any:
            x = self.pool(self.stem(x))
            x = self.relu_a(self.a2(self.a1(x)) + x)
            x = self.relu_b(self.b2(self.b1(x)) + x)
            return self.fc(self.flat(self.mean(x)))

    return Network()


def separable(width: int = 8) -> Any:
    """A convolution, three depthwise-separable blocks, the mean of the image, a dense layer."""
    from torch import nn

    one, two, three = width, 2 * width, 3 * width
    return nn.Sequential(
        OrderedDict(
            stem=_unit(1, one),
            depth1=_unit(one, one, groups=one),
            point1=_unit(one, two, kernel=1),
            pool1=nn.MaxPool2d(2),
            depth2=_unit(two, two, groups=two),
            point2=_unit(two, three, kernel=1),
            pool2=nn.MaxPool2d(2),
            depth3=_unit(three, three, groups=three),
            point3=_unit(three, three, kernel=1),
            mean=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            fc=nn.Linear(three, 10),
        )
    )


def branches(width: int = 8) -> Any:
    """Two branches that are concatenated, an average pool, two dense layers."""
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.pool = _unit(1, width), nn.MaxPool2d(2)
            self.narrow, self.wide = _unit(width, width, kernel=1), _unit(width, width)
            self.mean, self.flat = nn.AvgPool2d(2), nn.Flatten()
            self.hidden, self.relu = nn.Linear(8 * width, 2 * width), nn.ReLU()
            self.fc = nn.Linear(2 * width, 10)

        def forward(self, x: Any) -> Any:
            x = self.pool(self.stem(x))
            x = self.mean(torch.cat([self.narrow(x), self.wide(x)], dim=1))
            return self.fc(self.relu(self.hidden(self.flat(x))))

    return Network()


NETWORKS: dict[str, Callable[..., Any]] = {
    "chain": chain,
    "residual": residual,
    "separable": separable,
    "branches": branches,
}


def floating(name: str, *, width: int | None = None, seed: int = 0, epochs: int = 25) -> FloatGraph:
    """The network of this name, trained from `seed`; the split of the digits is that of seed 0."""
    import torch

    data = datasets.digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = NETWORKS[name](*([] if width is None else [width]))
    train(module, data.train_x, data.train_y, epochs=epochs, seed=seed)
    return import_torch(module, (1, 8, 8))


def trained(
    name: str,
    *,
    width: int | None = None,
    seed: int = 0,
    epochs: int = 25,
    config: QuantConfig | None = None,
) -> ir.Graph:
    """`floating`, quantised, to 8 bits by default."""
    graph = floating(name, width=width, seed=seed, epochs=epochs)
    return quantize(graph, datasets.digits().calibration_x, config or QuantConfig())


def with_argmax(graph: ir.Graph) -> ir.Graph:
    """The graph with the index of the largest logit as its output."""
    label = ir.ArgMax(name="label", inputs=(graph.output,))
    return dataclasses.replace(graph, nodes=(*graph.nodes, label), output="label")
