"""The torch executor: the same integers as `reference`, by other means, on a CPU or a GPU.

It shares no arithmetic with the reference: torch's own convolutions and pools run on float64,
which is exact below 2^53 in any order of summation and never uses TF32; requantisation is int64.
cuDNN is off because its FFT and Winograd kernels round even where every sum would be exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import ranges
from .errors import InputError
from .ir import (
    Add,
    ArgMax,
    AvgPool,
    Concat,
    Conv2d,
    Dense,
    Flatten,
    GlobalAvgPool,
    Graph,
    IntArray,
    MaxPool,
    Node,
    Pad,
    Requantize,
    TensorType,
    Thresholds,
)
from .reference import check_input

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["accumulate", "evaluate", "execute", "run"]

CHUNK_IMAGES = 256


def execute(graph: Graph, x: IntArray, device: str = "cpu") -> dict[str, IntArray]:
    """Every tensor by name, the input included; x is [N, *input_shape], results int64 NumPy.

    Raises InputError where the reference does, and where torch or the device is missing.
    """
    found = _walk(graph, check_input(graph, x), device, keep=True)
    return {name: _array(value) for name, value in found.items()}


def run(graph: Graph, x: IntArray, device: str = "cpu") -> IntArray:
    """The output alone, [N, *shape], some images at a time."""
    x = check_input(graph, x)
    parts = [x[i : i + CHUNK_IMAGES] for i in range(0, max(len(x), 1), CHUNK_IMAGES)]
    results = [_walk(graph, part, device, keep=False)[graph.output] for part in parts]
    joined: IntArray = np.concatenate([_array(value) for value in results])
    return joined


def _array(value: Tensor) -> IntArray:
    """Back to channels-last NumPy."""
    result: IntArray = _last(value).contiguous().cpu().numpy()
    return result


def _last(value: Tensor) -> Tensor:
    return value.permute(0, 2, 3, 1) if value.dim() == 4 else value


def _first(value: Tensor) -> Tensor:
    return value.permute(0, 3, 1, 2) if value.dim() == 4 else value


def _walk(graph: Graph, x: IntArray, device: str, *, keep: bool) -> dict[str, Tensor]:
    """Tensors by name, int64, channels first as torch wants them."""
    try:
        import torch
    except ImportError:
        raise InputError("torch executor: torch is missing; pip install 'tercet[torch]'") from None
    kinds = ranges.types(graph)
    last = {name: node for node in graph for name in node.inputs}
    try:
        values = {graph.input_name: _first(torch.from_numpy(x).to(device))}
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"torch executor: device {device!r} cannot be used: {reason}") from None
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=False):
        for node in graph:
            operands = [values[name] for name in node.inputs]
            values[node.name] = evaluate(node, operands, [kinds[name] for name in node.inputs])
            for name in set(node.inputs):
                if not keep and last[name] is node and name != graph.output:
                    del values[name]
    return values


def evaluate(node: Node, operands: Sequence[Tensor], kinds: Sequence[TensorType]) -> Tensor:
    """The node's tensor from its operands of types `kinds`; int64, channels first."""
    import torch

    centred = [value - kind.zero_point for value, kind in zip(operands, kinds, strict=True)]
    match node:
        case Conv2d() | Dense():
            return _finish(node, accumulate(node, operands, kinds))
        case MaxPool():
            return _max_pool(node, operands[0], kinds[0])
        case AvgPool():
            return _avg_pool(node, centred[0])
        case GlobalAvgPool():
            return _requantize(node.requantize, centred[0].sum(dim=(2, 3)))
        case Add():
            (a, b), (ma, mb) = centred, node.multipliers
            return _round(a * ma + b * mb, 1, node.shift, node.out.zero_point, node.limits)
        case Concat():
            parts = [
                raw if table is None else _requantize(table, value)
                for raw, value, table in zip(operands, centred, node.requantize, strict=True)
            ]
            return torch.cat(parts, dim=1)
        case Flatten():
            return _last(operands[0]).flatten(1)
        case Pad():
            padding = (*_sides(node.padding), *node.channels)
            return torch.nn.functional.pad(operands[0], padding, value=kinds[0].zero_point)
        case ArgMax():
            return _argmax(operands[0])
    raise InputError(f"{node.name}: unknown operator {type(node).__name__}")


def _sides(padding: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) -> torch's (left, right, top, bottom)."""
    top, left, bottom, right = padding
    return left, right, top, bottom


def _tensor(array: IntArray, like: Tensor, shape: tuple[int, ...] | None = None) -> Any:
    import torch

    return torch.tensor(array.reshape(shape or array.shape), device=like.device)


def _channels(vector: IntArray, like: Tensor) -> Any:
    """A (1 or channels,) vector that broadcasts along axis 1 of `like`."""
    return _tensor(vector, like, (1, len(vector)) + (1,) * (like.dim() - 2))


def accumulate(
    node: Conv2d | Dense, operands: Sequence[Tensor], kinds: Sequence[TensorType]
) -> Tensor:
    """The exact accumulator, bias included; int64, channels first."""
    import torch

    centred = (operands[0] - kinds[0].zero_point).double()
    weight = _tensor(node.weight, centred).double()
    if isinstance(node, Conv2d):
        image = torch.nn.functional.pad(centred, _sides(node.padding))
        acc = torch.nn.functional.conv2d(
            image,
            weight.permute(0, 3, 1, 2),
            stride=node.stride,
            dilation=node.dilation,
            groups=node.groups,
        )
    else:
        acc = torch.nn.functional.linear(centred, weight)
    return acc.to(torch.int64) + _channels(node.bias, acc)


def _finish(node: Conv2d | Dense, acc: Tensor) -> Tensor:
    match node.requantize:
        case Requantize() as table:
            return _requantize(table, acc)
        case Thresholds() as table:
            return _thresholds(table, acc)
    return acc


def _max_pool(node: MaxPool, value: Tensor, kind: TensorType) -> Tensor:
    import torch

    image = torch.nn.functional.pad(value.double(), _sides(node.padding), value=float(kind.lo))
    return torch.nn.functional.max_pool2d(image, node.kernel, node.stride).to(torch.int64)


def _avg_pool(node: AvgPool, centred: Tensor) -> Tensor:
    """Sums by torch's average with divisor 1; the counts are the sums over an image of ones."""
    import torch

    functional = torch.nn.functional

    def sums(image: Tensor) -> Tensor:
        padded = functional.pad(image.double(), _sides(node.padding))
        total = functional.avg_pool2d(padded, node.kernel, node.stride, divisor_override=1)
        return total.to(torch.int64)

    multiplier = _channels(node.requantize.multiplier, centred)
    if not node.count_include_pad:
        n = sums(torch.ones_like(centred[:1, :1]))
        window = node.kernel[0] * node.kernel[1]
        multiplier = torch.div(multiplier * window + n // 2, n, rounding_mode="floor")
    return _requantize(node.requantize, sums(centred), multiplier)


def _requantize(table: Requantize, acc: Tensor, multiplier: Any = None) -> Tensor:
    import torch

    m = _channels(table.multiplier, acc) if multiplier is None else multiplier
    q = _round(acc, m, _channels(table.shift, acc), table.out.zero_point, table.limits)
    if table.bound is None:
        return q
    bound = _channels(table.bound, acc)
    instead = bound if table.bound_kind == "saturate" else table.out.zero_point
    return torch.where(q > bound, instead, q)


def _round(acc: Tensor, m: Any, s: Any, zero_point: int, limits: tuple[int, int]) -> Tensor:
    """Round half up by the remainder: floor(v / 2^s) + (the bit below the cut is set)."""
    import torch

    product = acc * m
    shift = torch.as_tensor(s, device=acc.device)
    below = (product >> (shift - 1).clamp(min=0)) & (shift > 0)
    return ((product >> shift) + below + zero_point).clamp(*limits)


def _thresholds(table: Thresholds, acc: Tensor) -> Tensor:
    """Steps of a sorted table passed, by binary search in each channel's row."""
    import torch

    rows = _tensor(table.values, acc).expand(acc.shape[1], -1).contiguous()
    flat = acc.transpose(0, 1).reshape(acc.shape[1], -1).contiguous()
    count = torch.searchsorted(rows, flat, right=True)
    moved = count.reshape(acc.shape[1], acc.shape[0], *acc.shape[2:]).transpose(0, 1)
    return table.out.lo + (2 if table.out.bipolar else 1) * moved


def _argmax(value: Tensor) -> Tensor:
    """Lowest index of the maximum; torch.argmax promises no order among ties."""
    import torch

    index = torch.arange(value.shape[1], device=value.device).expand_as(value)
    best = value == value.max(dim=1, keepdim=True).values
    return torch.where(best, index, value.shape[1]).min(dim=1, keepdim=True).values
