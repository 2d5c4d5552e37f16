"""Score D: first-order Taylor expansion of the loss, |a dL/da|, through the integer graph.

Molchanov et al., "Pruning convolutional neural networks for resource efficient inference" (ICLR
2017), eq. 5-8, element by element. The forward values are the graph's own integers; backwards,
requantisation counts as the straight line that it rounds, with slope 0 where it clamps
(straight-through estimator, Bengio et al. 2013).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import ranges
from ..errors import InputError
from ..ir import (
    Add,
    ArgMax,
    AvgPool,
    Concat,
    Conv2d,
    Dense,
    Flatten,
    GlobalAvgPool,
    IntArray,
    MaxPool,
    Node,
    Pad,
    Requantize,
    Thresholds,
)
from .propagate import Propagation

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["taylor"]

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
CHUNK_IMAGES = 64


def taylor(run: Propagation) -> dict[str, FloatArray]:
    """Mean |a dL/da| of each neuron's positions in each image: [images, out_channels] by layer.

    a = q - zero_point; L is the cross-entropy of the predicted class, the logits in units of their
    standard deviation among the classes (integers have no unit of their own, and a saturated
    softmax has no gradient). Raises InputError without torch.
    """
    try:
        import torch
    except ImportError:
        raise InputError("score taylor: torch is missing; pip install 'tercet[torch]'") from None
    graph = run.model.graph
    ends = isinstance(graph.nodes[-1], ArgMax)
    logits = graph.nodes[-1].inputs[0] if ends else graph.output
    values = run.golden[logits].reshape(len(run.top1), -1)
    unit = max(float(values.std(axis=1).mean()), 1e-9)
    layers = [node.name for node in graph if isinstance(node, Conv2d | Dense)]
    parts: dict[str, list[FloatArray]] = {name: [] for name in layers}
    for i in range(0, len(run.top1) if layers else 0, CHUNK_IMAGES):
        images = slice(i, i + CHUNK_IMAGES)
        tensors = _forward(run, images, layers, logits)
        label = torch.from_numpy(run.top1[images])
        loss = torch.nn.functional.cross_entropy(
            tensors[logits].flatten(1) / unit, label, reduction="sum"
        )
        slopes = torch.autograd.grad(loss, [tensors[n] for n in layers], allow_unused=True)
        for name, slope in zip(layers, slopes, strict=True):
            a = run.golden[name][images] - run.model.types[name].zero_point
            size = np.zeros(a.shape) if slope is None else np.abs(a * _last(slope))
            parts[name].append(size.reshape(len(a), -1, a.shape[-1]).mean(axis=1))
    return {name: np.concatenate(found) for name, found in parts.items()}


def _last(value: Tensor) -> FloatArray:
    """Channels last, as NumPy."""
    moved = value.permute(0, 2, 3, 1) if value.dim() == 4 else value
    return np.asarray(moved.numpy(), dtype=np.float64)


def _first(values: Any) -> Tensor:
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))
    return tensor.permute(0, 3, 1, 2) if tensor.dim() == 4 else tensor


def _forward(run: Propagation, images: slice, layers: list[str], logits: str) -> dict[str, Tensor]:
    """Every tensor up to the logits: the graph's integers, the gradient of the lines beneath."""
    import torch

    graph = run.model.graph
    with torch.enable_grad():
        tensors = {graph.input_name: _first(run.golden[graph.input_name][images])}
        for node in graph:
            if isinstance(node, ArgMax):
                break
            line = _line(run, node, [tensors[name] for name in node.inputs])
            exact = _first(run.golden[node.name][images])
            value = line + (exact - line).detach()
            if node.name in layers and not value.requires_grad:
                value = value.requires_grad_()
            tensors[node.name] = value
            if node.name == logits:
                break
    return tensors


def _line(run: Propagation, node: Node, operands: list[Tensor]) -> Tensor:
    """What a node computes, without rounding."""
    import torch

    functional = torch.nn.functional
    zeros = [run.model.types[name].zero_point for name in node.inputs]
    centred = [value - zero for value, zero in zip(operands, zeros, strict=True)]
    match node:
        case Conv2d():
            weight = _first(node.weight)  # [out, kh, kw, in] -> [out, in, kh, kw]
            image = functional.pad(centred[0], _sides(node.padding))
            options = {"stride": node.stride, "dilation": node.dilation, "groups": node.groups}
            acc = functional.conv2d(image, weight, _first(node.bias), **options)
            return _finish(node.requantize, acc)
        case Dense():
            acc = functional.linear(centred[0], _first(node.weight), _first(node.bias))
            return _finish(node.requantize, acc)
        case MaxPool():
            low = float(run.model.types[node.name].lo)
            image = functional.pad(operands[0], _sides(node.padding), value=low)
            return functional.max_pool2d(image, node.kernel, node.stride)
        case AvgPool():
            image = functional.pad(centred[0], _sides(node.padding))
            acc = functional.avg_pool2d(image, node.kernel, node.stride, divisor_override=1)
            counts = ranges.valid_counts(node, run.model.shapes[node.inputs[0]])
            return _scaled(node.requantize, acc, ranges.window_multiplier(node, np.outer(*counts)))
        case GlobalAvgPool():
            return _scaled(node.requantize, centred[0].sum(dim=(2, 3)))
        case Add():
            total = centred[0] * node.multipliers[0] + centred[1] * node.multipliers[1]
            return (total / 2.0**node.shift + node.out.zero_point).clamp(*node.limits)
        case Concat():
            pairs = zip(operands, centred, node.requantize, strict=True)
            parts = [raw if table is None else _scaled(table, value) for raw, value, table in pairs]
            return torch.cat(parts, dim=1)
        case Flatten():
            moved = operands[0].permute(0, 2, 3, 1) if operands[0].dim() == 4 else operands[0]
            return moved.flatten(1)
        case Pad():
            sides = (*_sides(node.padding), *node.channels)
            return functional.pad(operands[0], sides, value=float(zeros[0]))
    raise InputError(f"{node.name}: unknown operator {type(node).__name__}")


def _sides(padding: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) -> torch's (left, right, top, bottom)."""
    top, left, bottom, right = padding
    return left, right, top, bottom


def _finish(table: Requantize | Thresholds | None, acc: Tensor) -> Tensor:
    if table is None:
        return acc
    return _steps(table, acc) if isinstance(table, Thresholds) else _scaled(table, acc)


def _channels(vector: Any, like: Tensor) -> Tensor:
    """A (1 or channels,) vector that broadcasts along axis 1 of `like`."""
    return _first(np.asarray(vector).reshape(1, -1)).reshape(1, -1, *[1] * (like.dim() - 2))


def _scaled(table: Requantize, acc: Tensor, multiplier: IntArray | None = None) -> Tensor:
    """acc m / 2^s + zp within the clamp; 0 slope where a bound replaces the value."""
    import torch

    if multiplier is None or multiplier.ndim == 1:
        m = _channels(table.multiplier if multiplier is None else multiplier, acc)
    else:
        m = _first(np.broadcast_to(multiplier, (1, *multiplier.shape)))
    q = acc * m / 2.0 ** _channels(table.shift, acc) + table.out.zero_point
    q = q.clamp(*table.limits)
    if table.bound is None:
        return q
    bound = _channels(table.bound, acc)
    instead = bound if table.bound_kind == "saturate" else torch.full_like(q, table.out.zero_point)
    return torch.where(q > bound, instead, q)


def _steps(table: Thresholds, acc: Tensor) -> Tensor:
    """A ramp from the first threshold to the last, no steeper than the accumulators' spread."""
    first, last = (_channels(table.values[:, i], acc) for i in (0, -1))
    axes = tuple(i for i in range(acc.dim()) if i != 1)
    spread = acc.detach().std(dim=axes, keepdim=True, unbiased=False).clamp(min=1.0)
    width = (last - first).maximum(spread)
    part = ((acc - (first + last) / 2) / width + 0.5).clamp(0.0, 1.0)
    return table.out.lo + (table.out.hi - table.out.lo) * part
