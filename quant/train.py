"""A small trainer for classifiers: seeded, deterministic, on the CPU."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .errors import InputError

__all__ = ["accuracy", "one_thread", "predict", "train"]

EVALUATION_BATCH = 256


def train(
    module: Any,
    x: np.ndarray[Any, Any],
    y: np.ndarray[Any, Any],
    *,
    epochs: int,
    seed: int,
    batch_size: int = 64,
    learning_rate: float = 0.01,
    weight_decay: float = 1e-4,
    max_shift: int = 0,
    mirror: bool = False,
) -> list[float]:
    """Train `module` in place on images `x` [n, ...] and labels `y` [n]; mean loss per epoch.

    AdamW with a cosine schedule down to zero. `max_shift` moves each training image by up to that
    many pixels, filled with zeros; `mirror` swaps left and right in half of them. The same seed
    gives the same weights; torch's global generator is left as it was. One thread: the networks are
    small, and results do not depend on the number of cores. The module comes back in evaluation
    mode. Raises InputError for unequal lengths or no data, ValueError for `epochs` below 1.
    """
    import torch

    if epochs < 1:
        raise ValueError(f"epochs must be 1 or more, not {epochs}")
    if len(x) != len(y) or not len(x):
        raise InputError(f"training needs as many labels as images, not {len(y)} for {len(x)}")
    images, labels = torch.as_tensor(x, dtype=torch.float32), torch.as_tensor(y)
    optimizer = torch.optim.AdamW(module.parameters(), lr=learning_rate, weight_decay=weight_decay)
    losses = []
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(seed)
        module.train()
        for epoch in range(epochs):
            total = 0.0
            batches = _batches(torch.randperm(len(images)), batch_size)
            for index, batch in enumerate(batches):
                done = (epoch + index / len(batches)) / epochs
                optimizer.param_groups[0]["lr"] = learning_rate * _cosine(done)
                varied = _mirrored(_shifted(images[batch], max_shift), mirror)
                scores = module(varied)
                loss = torch.nn.functional.cross_entropy(scores, labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += float(loss.detach()) * len(batch)
            losses.append(total / len(images))
    module.eval()
    return losses


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread inside the block: on small tensors more threads only wait."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _batches(order: Any, size: int) -> list[Any]:
    """`order` cut into batches; a last one of a single image joins its neighbour (batch norm)."""
    parts = list(order.split(size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        import torch

        parts[-2:] = [torch.cat(parts[-2:])]
    return parts


def _cosine(done: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * done))


def _shifted(images: Any, max_shift: int) -> Any:
    """Each image moved by its own random number of rows and columns."""
    import torch

    if not max_shift:
        return images
    count, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (max_shift,) * 4)
    down, right = torch.randint(0, 2 * max_shift + 1, (2, count, 1))
    rows = down + torch.arange(height)
    columns = right + torch.arange(width)
    index = torch.arange(count)[:, None, None]
    moved = padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def _mirrored(images: Any, mirror: bool) -> Any:
    """Half of the images, by lot, with left and right swapped."""
    import torch

    if not mirror:
        return images
    swap = torch.rand(len(images), 1, 1, 1) < 0.5
    return torch.where(swap, images.flip(3), images)


def predict(module: Any, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The module's outputs [n, ...] for `x` [n, ...], in evaluation mode, as float32."""
    import torch

    training = module.training
    module.eval()
    with torch.no_grad(), one_thread():
        parts = torch.as_tensor(x, dtype=torch.float32).split(EVALUATION_BATCH)
        outputs = torch.cat([module(part) for part in parts]).numpy()
    module.train(training)
    return np.asarray(outputs)


def accuracy(scores: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> float:
    """Share of rows of `scores` [n, classes] whose largest entry (first on ties) is the label."""
    if len(scores) != len(labels) or not len(labels):
        raise InputError(f"{len(scores)} outputs for {len(labels)} labels; give one label each")
    return float((np.argmax(scores, axis=1) == labels).mean())
