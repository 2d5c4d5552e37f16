"""LeNet-5: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document
recognition" (Proc. IEEE 86, 1998), figure 2, in today's form.

ReLU and 2x2 max pooling in place of scaled tanh and trained subsampling, every third-layer map
connected to all six (61,706 parameters), a dense layer in place of the radial-basis output.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

__all__ = ["lenet5"]


def lenet5(seed: int = 0, classes: int = 10) -> Any:
    """Module from [n, 1, 28, 28] to [n, classes]; untrained, the weights follow from `seed`."""
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(1, 6, 5, padding=2),  # the 32x32 field of the paper
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(6, 16, 5),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                flatten=nn.Flatten(),
                fc1=nn.Linear(400, 120),
                relu3=nn.ReLU(),
                fc2=nn.Linear(120, 84),
                relu4=nn.ReLU(),
                fc3=nn.Linear(84, classes),
            )
        )
