"""The zoo: every network by name, with its input and its published number of parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError
from ..ir import Conv2d, Dense, Graph
from ..names import printable
from ..shapes import infer
from .autoencoder import deep_autoencoder
from .densenet import densenet
from .dscnn import ds_cnn
from .lenet import lenet5
from .mobilenet import mobilenet_v1
from .resnet import resnet8, resnet20

__all__ = ["ZOO", "Entry", "entry", "macs", "network", "parameters", "settle", "synthetic"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Entry:
    """A network: `make(seed)` gives the module for [n, *input_shape].

    `parameters` is the published count (our own where `published` is false). `statistics` tells
    whether it counts the moving mean and variance of batch norms, as Keras does.
    """

    make: Callable[[int], Any]
    input_shape: tuple[int, ...]
    parameters: int
    statistics: bool
    published: bool = True


ZOO: dict[str, Entry] = {
    "lenet5": Entry(lenet5, (1, 28, 28), 61_706, False, published=False),
    "resnet8": Entry(resnet8, (3, 32, 32), 78_666, True),
    "resnet20": Entry(resnet20, (3, 32, 32), 269_722, False),
    "dscnn": Entry(ds_cnn, (1, 49, 10), 24_908, True),
    "densenet": Entry(densenet, (3, 32, 32), 76_018, False, published=False),
    "mobilenet": Entry(mobilenet_v1, (3, 96, 96), 219_058, True),
    "autoencoder": Entry(deep_autoencoder, (640,), 269_992, True),
}


def entry(name: str) -> Entry:
    """The entry of this name; InputError lists the names."""
    if name not in ZOO:
        raise InputError(f"no network {printable(name)} in the zoo; networks: {', '.join(ZOO)}")
    return ZOO[name]


def network(name: str, seed: int = 0) -> tuple[Any, Any]:
    """(module, example input [1, ...] of zeros); untrained, in evaluation mode."""
    import torch

    found = entry(name)
    return found.make(seed).eval(), torch.zeros(1, *found.input_shape)


def synthetic(shape: tuple[int, ...], count: int, seed: int = 0) -> Array:
    """Inputs for a network without data: float32 [count, *shape] that differ in what they show.

    Coarse random patterns with some noise. White noise alone looks the same to a network that ends
    in a mean over the image.
    """
    rng = np.random.default_rng(seed)
    noise = 0.2 * rng.normal(size=(count, *shape))
    coarse = [
        size if axis == 0 and len(shape) == 3 else -(-size // 16) for axis, size in enumerate(shape)
    ]
    pattern = rng.normal(size=(count, *coarse))
    for axis, size in enumerate(shape, 1):
        repeats = -(-size // pattern.shape[axis])
        pattern = pattern.repeat(repeats, axis).take(range(size), axis)
    return (pattern + noise).astype(np.float32)


def parameters(module: Any, *, statistics: bool) -> int:
    """Number of parameters; with `statistics` also batch norm's moving means and variances."""
    count: int = sum(p.numel() for p in module.parameters())
    moving = (
        buffer.numel()
        for name, buffer in module.named_buffers()
        if name.endswith(("running_mean", "running_var"))
    )
    return count + (sum(moving) if statistics else 0)


def settle(module: Any, x: Array) -> None:
    """Give the batch norms the mean and variance that they meet on `x` [n, ...], in place.

    One forward pass in training mode with a cumulative average, so that an untrained network's
    activations neither vanish nor explode. The module comes back in evaluation mode.
    """
    import torch

    norms = [part for part in module.modules() if hasattr(part, "running_var")]
    momenta = [part.momentum for part in norms]
    for part in norms:
        part.reset_running_stats()
        part.momentum = None
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)  # dropout
        module.train()
        module(torch.as_tensor(x, dtype=torch.float32))
        module.eval()
    for part, momentum in zip(norms, momenta, strict=True):
        part.momentum = momentum


def macs(graph: Graph) -> int:
    """Multiplications of one inference in convolutions and dense layers, padding included."""
    shapes = infer(graph)
    return sum(
        math.prod(shapes[node.name][:-1]) * node.weight.size
        for node in graph
        if isinstance(node, Conv2d | Dense)
    )
