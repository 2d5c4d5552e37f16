"""MobileNetV1 with width 0.25 at 96x96: Howard et al., "MobileNets" (2017), table 1, in the form
of MLPerf Tiny's visual wake words (Banbury et al., 2021).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

__all__ = ["mobilenet_v1"]

# (channels out at width 1, stride) of the depthwise-separable blocks
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5)
BLOCKS_END = ((1024, 2), (1024, 1))


def mobilenet_v1(seed: int = 0, classes: int = 2) -> Any:
    """Module from [n, 3, 96, 96] to [n, classes]; untrained, the weights follow from `seed`.

    Padding as Keras pads ("same": at stride 2 the odd pixel goes behind).
    """
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        channels = 8
        parts: OrderedDict[str, Any] = OrderedDict(stem=_layer(3, channels, 3, 2, 1))
        for index, (full, stride) in enumerate((*BLOCKS, *BLOCKS_END), 1):
            width = full // 4
            parts[f"depthwise{index}"] = _layer(channels, channels, 3, stride, channels)
            parts[f"pointwise{index}"] = _layer(channels, width, 1, 1, 1)
            channels = width
        parts["pool"] = nn.AvgPool2d(3)
        parts["flatten"] = nn.Flatten()
        parts["fc"] = nn.Linear(channels, classes)
        return nn.Sequential(parts)


def _layer(channels: int, width: int, kernel: int, stride: int, groups: int) -> Any:
    """Convolution without bias, batch norm, ReLU; "same" padding."""
    from torch import nn

    padded = stride == 2
    padding = 0 if padded else kernel // 2
    return nn.Sequential(
        OrderedDict(
            pad=nn.ZeroPad2d((0, 1, 0, 1)) if padded else nn.Identity(),
            conv=nn.Conv2d(channels, width, kernel, stride, padding, groups=groups, bias=False),
            bn=nn.BatchNorm2d(width),
            relu=nn.ReLU(),
        )
    )
