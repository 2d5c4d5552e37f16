"""Two classifiers for 8x8 digits: a plain CNN, and an odd one that exercises unusual shapes.

Both are chains of convolution, max pooling and dense layers.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from typing import Any

import numpy as np

from ..datasets import Digits, FloatImages, digits
from ..importers.torch_module import import_torch
from ..ir import Graph
from ..quantize import QuantConfig, quantize
from ..train import train

__all__ = ["digits_net", "digits_network", "odd_input", "odd_net", "odd_network", "trained"]

ODD_CONFIG = QuantConfig(
    asymmetric=True,
    layers={"conv2": {"weight_bits": 4}, "conv3": {"act_bits": 4}, "hidden": {"weight_bits": 4}},
)


def digits_net(widths: tuple[int, int] = (8, 16), classes: int = 10) -> Any:
    """Two times (3x3 convolution, batch norm, ReLU, 2x2 max pool), then a dense layer.

    Input [n, 1, 8, 8], output [n, classes]; untrained, weights from torch's global generator.
    """
    from torch import nn

    first, second = widths
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, first, 3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(first),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(first, second, 3, padding=1, bias=False),
            bn2=nn.BatchNorm2d(second),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc=nn.Linear(4 * second, classes),
        )
    )


def odd_net() -> Any:
    """A chain of odd channel counts, strides, groups and paddings, with signed activations.

    Input [n, 1, 8, 8] in -0.5..0.5 (`odd_input`), output [n, 10]; untrained.
    """
    from torch import nn

    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 6, 3, padding=(1, 2)),  # 6 x 8 x 10, signed
            pool1=nn.MaxPool2d(3, stride=(1, 2), padding=1),  # 6 x 8 x 5
            conv2=nn.Conv2d(6, 15, (3, 2), stride=(2, 1), padding=(1, 0), groups=3),  # 15 x 4 x 4
            bn2=nn.BatchNorm2d(15),
            relu2=nn.ReLU6(),
            conv3=nn.Conv2d(15, 10, 3, stride=2, padding=1),  # 10 x 2 x 2
            act3=nn.Hardtanh(-1.5, 2.0),
            flatten=nn.Flatten(),
            hidden=nn.Linear(40, 14),
            relu=nn.ReLU(),
            fc=nn.Linear(14, 10),
        )
    )


def odd_input(images: FloatImages) -> FloatImages:
    """Digits in 0..1 as `odd_net` wants them."""
    return images - np.float32(0.5)


@functools.lru_cache(maxsize=16)
def trained(
    network: str = "plain", seed: int = 0, epochs: int = 40, widths: tuple[int, int] = (8, 16)
) -> Any:
    """A trained module, `plain` (`digits_net(widths)`) or `odd` (`odd_net()`); do not change it.

    Weights, order and shifts follow from `seed`; the split of the digits is always that of seed 0.
    """
    import torch

    data = digits()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = odd_net() if network == "odd" else digits_net(widths)
    train(module, _inputs(network, data.train_x), data.train_y, epochs=epochs, seed=seed)
    return module


def _inputs(network: str, images: FloatImages) -> FloatImages:
    return odd_input(images) if network == "odd" else images


def digits_network(
    seed: int = 0, config: QuantConfig | None = None, widths: tuple[int, int] = (8, 16)
) -> Graph:
    """The trained and quantised plain network; `config` defaults to 8 bits and scales."""
    return _quantized("plain", trained("plain", seed, widths=widths), config or QuantConfig())


def odd_network(seed: int = 0, epochs: int = 15) -> Graph:
    """The trained odd network with zero points, mixed 4 and 8 bits and scales per channel."""
    return _quantized("odd", trained("odd", seed, epochs), ODD_CONFIG)


def _quantized(network: str, module: Any, config: QuantConfig) -> Graph:
    data: Digits = digits()
    graph = import_torch(module, (1, 8, 8))
    return quantize(graph, _inputs(network, data.calibration_x), config)
