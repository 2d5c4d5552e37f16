"""The networks of a search space as torch modules: chains and residual networks of stages.

A chain is convolution, batch norm, ReLU, again and again; a residual network's blocks are those of
He, Zhang, Ren, Sun, "Deep residual learning for image recognition" (CVPR 2016), figure 2, with a
1x1 convolution as the shortcut where widths differ (their option B). A 2x2 max pool ends a stage.
`skeleton` makes the same graphs without torch.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections import OrderedDict
from typing import Any

from ...quant.float_graph import FloatGraph
from .candidate import NetworkSpec, StageSpec

__all__ = ["imported", "module"]


def module(spec: NetworkSpec, seed: int = 0) -> Any:
    """Module from [n, *input_shape] to [n, classes]; untrained, the weights follow from `seed`.

    Its layers are named s1b1_conv (residual: s1b1_conv1, s1b1_conv2, s1b1_skip), .., s1_pool, ..,
    mean, flatten and fc: stage, block, and what it is.
    """
    import torch
    from torch import nn

    channels, height, width = spec.input_shape
    parts: OrderedDict[str, Any] = OrderedDict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for number, stage in enumerate(spec.stages, 1):
            for block in range(1, stage.blocks + 1):
                add = _residual if spec.family == "residual" else _chain
                add(parts, f"s{number}b{block}", channels, stage)
                channels = stage.width
            parts[f"s{number}_pool"] = nn.MaxPool2d(2)
            height, width = height // 2, width // 2
        if spec.head == "mean":
            parts["mean"] = nn.AdaptiveAvgPool2d(1)
        parts["flatten"] = nn.Flatten()
        features = channels if spec.head == "mean" else channels * height * width
        parts["fc"] = nn.Linear(features, spec.classes)
        return nn.Sequential(parts)


def imported(network: Any, spec: NetworkSpec) -> FloatGraph:
    """The float graph of a `module` of this spec, batch norm folded; sums are named s1b1_add, ..

    torch.export numbers them throughout the network instead.
    """
    from ...quant.importers.torch_module import import_torch

    graph = import_torch(network, spec.input_shape)

    def tidy(name: str) -> str:
        return re.sub(r"_add_\d+$", "_add", name)

    nodes = tuple(
        dataclasses.replace(node, name=tidy(node.name), inputs=tuple(map(tidy, node.inputs)))
        for node in graph
    )
    return dataclasses.replace(graph, name=f"{spec.family}_{spec.digest[:8]}", nodes=nodes)


def _convolution(channels: int, width: int, kernel: int) -> tuple[Any, Any]:
    """A convolution that keeps the size of the image, and its batch norm."""
    from torch import nn

    conv = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
    return conv, nn.BatchNorm2d(width)


def _chain(parts: OrderedDict[str, Any], name: str, channels: int, stage: StageSpec) -> None:
    from torch import nn

    conv, norm = _convolution(channels, stage.width, stage.kernel)
    parts[f"{name}_conv"], parts[f"{name}_bn"] = conv, norm
    parts[f"{name}_relu"] = nn.ReLU()


def _residual(parts: OrderedDict[str, Any], name: str, channels: int, stage: StageSpec) -> None:
    parts[name] = _block()(channels, stage.width, stage.kernel)


@functools.cache
def _block() -> type[Any]:
    """The class of a residual block; made on first use, so that this file loads without torch."""
    import torch
    from torch import nn

    class Block(nn.Module):
        """Two convolutions with batch norm around a shortcut; ReLU behind the first and the sum."""

        def __init__(self, channels: int, width: int, kernel: int) -> None:
            super().__init__()
            self.conv1, self.bn1 = _convolution(channels, width, kernel)
            self.conv2, self.bn2 = _convolution(width, width, kernel)
            self.projected = channels != width
            if self.projected:
                self.skip, self.bn3 = _convolution(channels, width, 1)

        def forward(self, x: Any) -> Any:
            y = torch.relu(self.bn1(self.conv1(x)))
            y = self.bn2(self.conv2(y))
            return torch.relu(y + (self.bn3(self.skip(x)) if self.projected else x))

    return Block
