"""The core ATen operators that an import understands, each a function from call to float node.

A handler gets the builder and the call; an operand is the name of a tensor (str) or the value of a
weight (torch.Tensor). It returns the name of its result. Operators: docs.pytorch.org, "IRs".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..float_graph import (
    Affine,
    ArgMax,
    Clamp,
    Concat,
    Conv,
    Dense,
    Flatten,
    FloatArray,
    MaxPool,
    Pad,
    Sum,
)
from . import torch_pools
from .torch_calls import Builder, Call, pair

__all__ = ["OPERATORS", "SUPPORTED"]

SUPPORTED = (
    "Conv2d, Linear, BatchNorm1d/2d, ReLU, ReLU6, Hardtanh, clamp, MaxPool2d, AvgPool2d, "
    "AdaptiveAvgPool2d, mean over the image, add, cat on channels, flatten, zero padding, "
    "strided slices from 0, scaling by constants, argmax, Dropout, Identity"
)


def _convolution(builder: Builder, call: Call) -> str:
    x, weight, bias, stride, padding, dilation, transposed, _, groups = call.args
    array = call.array(weight, "weight")
    if transposed or array.ndim != 4:
        call.fail("only two-dimensional convolutions that are not transposed are supported")
    padding = pair(padding)
    bias = np.zeros(len(array)) if bias is None else call.array(bias, "bias")
    conv = Conv(
        **call.common(_tensor(call, x)),
        weight=array,
        bias=bias,
        stride=pair(stride),
        padding=(*padding, *padding),
        dilation=pair(dilation),
        groups=groups,
    )
    rows, cols = (max(conv.padding[i], conv.padding[i + 2]) for i in (0, 1))
    if rows < conv.extent[0] and cols < conv.extent[1]:
        return builder.emit(conv)
    _, height, width = builder.shapes[x]
    shape = (builder.shapes[x][0], height + 2 * padding[0], width + 2 * padding[1])
    name = builder.emit(
        Pad(
            name=f"{call.name}_pad",
            inputs=(x,),
            shape=shape,
            path=f"{call.path}.pad",
            padding=conv.padding,
            channels=(0, 0),
        )
    )
    fields = {**vars(conv), "inputs": (name,), "padding": (0, 0, 0, 0)}
    return builder.emit(Conv(**fields))


def _tensor(call: Call, value: Any) -> str:
    if not isinstance(value, str):
        call.fail("its first operand is a constant; it must be a tensor of the network")
    return value


def _addmm(builder: Builder, call: Call) -> str:
    bias, x, weight = call.args
    if call.kwargs:
        call.fail("addmm with alpha or beta is not supported")
    return _dense(builder, call, x, weight, call.array(bias, "bias"))


def _mm(builder: Builder, call: Call) -> str:
    x, weight = call.args
    return _dense(builder, call, x, weight, None)


def _dense(builder: Builder, call: Call, x: Any, weight: Any, bias: FloatArray | None) -> str:
    array = call.array(weight, "weight").T
    offset = np.zeros(len(array)) if bias is None else np.broadcast_to(bias, (len(array),))
    return builder.emit(Dense(**call.common(_tensor(call, x)), weight=array, bias=offset))


def _batch_norm(builder: Builder, call: Call) -> str:
    x, gamma, beta, mean, variance, _, epsilon = call.args
    spread = call.array(variance, "running_var")
    if (spread + epsilon <= 0).any():
        call.fail("running_var is negative; train or load the weights again")
    gain = 1.0 / np.sqrt(spread + epsilon)
    if gamma is not None:
        gain = gain * call.array(gamma, "weight")
    offset = -call.array(mean, "running_mean") * gain
    if beta is not None:
        offset = offset + call.array(beta, "bias")
    return builder.emit(Affine(**call.common(_tensor(call, x)), gain=gain, offset=offset))


def _clamp(builder: Builder, call: Call, lo: float | None, hi: float | None) -> str:
    low = -math.inf if lo is None else float(lo)
    high = math.inf if hi is None else float(hi)
    if not low <= high:
        call.fail(f"clamps to {low}..{high}, an empty range")
    node = Clamp(**call.common(_tensor(call, call.args[0])), lo=low, hi=high)
    return builder.emit(node)


def _limit(builder: Builder, call: Call, upper: bool) -> str:
    bound = call.array(call.args[1], "bound")
    if bound.size != 1:
        call.fail("maximum and minimum take one number as bound")
    limit = float(bound.reshape(()))
    return _clamp(builder, call, None if upper else limit, limit if upper else None)


def _arithmetic(builder: Builder, call: Call, sign: int) -> str:
    a, b = call.args[:2]
    factor = sign * call.kwargs.get("alpha", 1)
    if isinstance(a, str) and isinstance(b, str):
        if factor != 1:
            call.fail("differences of tensors and add with alpha are not supported; only a + b")
        if builder.shapes[a] != builder.shapes[b]:
            call.fail(
                f"adds shapes {builder.shapes[a]} and {builder.shapes[b]}; they must be equal"
            )
        return builder.emit(Sum(**call.common(a, b)))
    if isinstance(a, str):
        return _affine(builder, call, a, 1.0, factor * _channels(call, b))
    return _affine(builder, call, b, float(factor), _channels(call, a))


def _multiply(builder: Builder, call: Call, divide: bool = False) -> str:
    a, b = call.args[:2]
    if (
        call.kwargs
        or (isinstance(a, str) and isinstance(b, str))
        or (divide and isinstance(b, str))
    ):
        call.fail("only multiplication and division by constants are supported")
    source, constant = (a, b) if isinstance(a, str) else (b, a)
    gain = _channels(call, constant)
    if divide:
        with np.errstate(divide="ignore"):  # _affine refuses the result
            gain = 1.0 / gain
    return _affine(builder, call, source, gain, 0.0)


def _channels(call: Call, value: Any) -> FloatArray:
    """A constant operand as one number per channel of the result."""
    if isinstance(value, int | float):
        return np.full(call.shape[0], float(value))
    array = call.array(value, "constant operand")
    rank = len(call.shape) + 1
    array = array.reshape((1,) * (rank - array.ndim) + array.shape)
    if array.size not in (1, call.shape[0]) or array.size != array.shape[1]:
        call.fail("a constant operand must be one number or one number per channel")
    return np.broadcast_to(array.reshape(-1), (call.shape[0],))


def _affine(
    builder: Builder, call: Call, source: str, gain: FloatArray | float, offset: FloatArray | float
) -> str:
    gains, offsets = (np.broadcast_to(np.asarray(v), (call.shape[0],)) for v in (gain, offset))
    if not (np.isfinite(gains).all() and np.isfinite(offsets).all()):
        call.fail("a constant operand is zero, NaN or infinity")
    if builder.shapes[source] != call.shape:
        call.fail("a constant operand changes the shape; it must be one number per channel")
    return builder.emit(Affine(**call.common(source), gain=gains, offset=offsets))


def _concat(builder: Builder, call: Call) -> str:
    axis = call.get(1, 0) % (len(call.shape) + 1)
    if axis != 1:
        call.fail("cat is supported on the channel axis (1) only")
    return builder.emit(Concat(**call.common(*(_tensor(call, x) for x in call.args[0]))))


def _reshape(builder: Builder, call: Call) -> str:
    source = builder.shapes[_tensor(call, call.args[0])]
    if source == call.shape:
        return str(call.args[0])
    if len(source) != 3 or call.shape != (math.prod(source),):
        call.fail(f"reshapes {source} to {call.shape}; only flattening an image is supported")
    return builder.emit(Flatten(**call.common(call.args[0])))


def _pad(builder: Builder, call: Call) -> str:
    if len(call.shape) != 3:
        call.fail("padding of vectors is not supported; pad the image in front of flatten")
    widths, value = list(call.args[1]), call.get(2, 0)
    if value != 0 or min(widths) < 0:
        call.fail("only padding with zeros is supported, not with other values and not cropping")
    left, right, top, bottom, front, back = widths + [0] * (6 - len(widths))
    padding, channels = (top, left, bottom, right), (front, back)
    source = _tensor(call, call.args[0])
    return builder.emit(Pad(**call.common(source), padding=padding, channels=channels))


def _slice(builder: Builder, call: Call) -> str:
    source = builder.shapes[call.args[0]]
    axis, start, end, step = (call.get(i, d) for i, d in ((1, 0), (2, None), (3, None), (4, 1)))
    axis %= len(source) + 1
    if source == call.shape and step == 1:
        return str(call.args[0])
    whole = end is None or end >= source[axis - 1]
    if axis not in (2, 3) or start not in (0, None) or not whole:
        call.fail("slices are supported as x[:, :, ::n, ::n] only, whole and from 0")
    stride = (step, 1) if axis == 2 else (1, step)
    node = MaxPool(**call.common(call.args[0]), kernel=(1, 1), stride=stride, padding=(0, 0, 0, 0))
    return builder.emit(node)


def _argmax(builder: Builder, call: Call) -> str:
    source = builder.shapes[call.args[0]]
    axis = call.get(1)
    if len(source) != 1 or axis is None or axis % 2 != 1:
        call.fail("argmax is supported over the features of a vector only: argmax(1)")
    return builder.emit(ArgMax(**call.common(call.args[0])))


def _identity(builder: Builder, call: Call) -> str:
    return _tensor(call, call.args[0])


OPERATORS: dict[str, Callable[[Builder, Call], str]] = {
    "convolution": _convolution,
    "addmm": _addmm,
    "mm": _mm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "relu": lambda builder, call: _clamp(builder, call, 0.0, None),
    "hardtanh": lambda builder, call: _clamp(builder, call, call.get(1, -1.0), call.get(2, 1.0)),
    "clamp": lambda builder, call: _clamp(builder, call, call.get(1), call.get(2)),
    "maximum": lambda builder, call: _limit(builder, call, upper=False),
    "minimum": lambda builder, call: _limit(builder, call, upper=True),
    "max_pool2d_with_indices": torch_pools.max_pool,
    "avg_pool2d": torch_pools.avg_pool,
    "_adaptive_avg_pool2d": torch_pools.adaptive_avg,
    "adaptive_max_pool2d": torch_pools.adaptive_max,
    "mean": torch_pools.mean,
    "add": lambda builder, call: _arithmetic(builder, call, 1),
    "sub": lambda builder, call: _arithmetic(builder, call, -1),
    "mul": _multiply,
    "div": lambda builder, call: _multiply(builder, call, divide=True),
    "cat": _concat,
    "view": _reshape,
    "squeeze": _reshape,
    "unsqueeze": _reshape,
    "constant_pad_nd": _pad,
    "slice": _slice,
    "argmax": _argmax,
    "clone": _identity,
    "alias": _identity,
    "detach": _identity,
}
