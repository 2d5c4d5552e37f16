"""DS-CNN for keyword spotting: Zhang, Suda, Lai, Chandra, "Hello Edge" (2017), in the size and
form of MLPerf Tiny (Banbury et al., 2021): 64 channels, four depthwise-separable blocks.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

__all__ = ["ds_cnn"]

CHANNELS = 64


def ds_cnn(seed: int = 0, classes: int = 12) -> Any:
    """Module from [n, 1, 49, 10] (frames, MFCC coefficients) to [n, classes].

    Untrained, the weights follow from `seed`. Padding as Keras pads ("same" at stride 2).
    """
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts: OrderedDict[str, Any] = OrderedDict(
            pad=nn.ZeroPad2d((1, 1, 4, 5)),
            conv=nn.Conv2d(1, CHANNELS, (10, 4), stride=2),
            bn=nn.BatchNorm2d(CHANNELS),
            relu=nn.ReLU(),
            dropout=nn.Dropout(0.2),
        )
        for index in range(1, 5):
            parts[f"block{index}"] = _block()
        parts["dropout_end"] = nn.Dropout(0.4)
        parts["pool"] = nn.AvgPool2d((25, 5))
        parts["flatten"] = nn.Flatten()
        parts["fc"] = nn.Linear(CHANNELS, classes)
        return nn.Sequential(parts)


def _block() -> Any:
    from torch import nn

    return nn.Sequential(
        OrderedDict(
            depthwise=nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS),
            bn1=nn.BatchNorm2d(CHANNELS),
            relu1=nn.ReLU(),
            pointwise=nn.Conv2d(CHANNELS, CHANNELS, 1),
            bn2=nn.BatchNorm2d(CHANNELS),
            relu2=nn.ReLU(),
        )
    )
