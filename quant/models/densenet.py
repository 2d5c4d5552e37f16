"""A small DenseNet for CIFAR-10: Huang, Liu, van der Maaten, Weinberger, "Densely connected
convolutional networks" (CVPR 2017), section 3, k = 12, without bottleneck and compression.

The paper's smallest has depth 40; this one has depth 13 by default, three layers a block.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from typing import Any

__all__ = ["densenet"]

STEM = 16


def densenet(seed: int = 0, depth: int = 13, growth: int = 12, classes: int = 10) -> Any:
    """Module from [n, 3, 32, 32] to [n, classes]; untrained, the weights follow from `seed`.

    `depth` = 3 n + 4 for n layers in each of the three blocks; ValueError for any other.
    """
    import torch
    from torch import nn

    layers, rest = divmod(depth - 4, 3)
    if rest or layers < 1:
        raise ValueError(f"depth must be 3 n + 4 with n >= 1, not {depth}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        channels = STEM
        parts: OrderedDict[str, Any] = OrderedDict(
            conv=nn.Conv2d(3, channels, 3, padding=1, bias=False)
        )
        for block in range(1, 4):
            for layer in range(1, layers + 1):
                parts[f"block{block}_{layer}"] = _dense_layer()(channels, growth)
                channels += growth
            if block < 3:
                parts[f"transition{block}"] = _transition(channels)
        parts["bn"] = nn.BatchNorm2d(channels)
        parts["relu"] = nn.ReLU()
        parts["pool"] = nn.AdaptiveAvgPool2d(1)
        parts["flatten"] = nn.Flatten()
        parts["fc"] = nn.Linear(channels, classes)
        return nn.Sequential(parts)


def _transition(channels: int) -> Any:
    from torch import nn

    return nn.Sequential(
        OrderedDict(
            bn=nn.BatchNorm2d(channels),
            relu=nn.ReLU(),
            conv=nn.Conv2d(channels, channels, 1, bias=False),
            pool=nn.AvgPool2d(2),
        )
    )


@functools.cache
def _dense_layer() -> type[Any]:
    """The class of a layer; made on first use, so that this file loads without torch."""
    import torch
    from torch import nn

    class DenseLayer(nn.Module):
        """x and behind it `growth` new channels: batch norm, ReLU, 3x3 convolution of x."""

        def __init__(self, channels: int, growth: int) -> None:
            super().__init__()
            self.bn = nn.BatchNorm2d(channels)
            self.conv = nn.Conv2d(channels, growth, 3, padding=1, bias=False)

        def forward(self, x: Any) -> Any:
            return torch.cat([x, self.conv(torch.relu(self.bn(x)))], 1)

    return DenseLayer
