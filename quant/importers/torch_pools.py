"""Pooling operators of an import: core ATen call to float node (see torch_operators)."""

from __future__ import annotations

from typing import Any

from ..float_graph import AvgPool, GlobalAvgPool, MaxPool
from .torch_calls import Builder, Call, pair

__all__ = ["adaptive_avg", "adaptive_max", "avg_pool", "max_pool", "mean"]


def _pool_window(
    builder: Builder, call: Call
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int], tuple[int, int]]:
    """Kernel, stride, padding, and the rows and columns that ceil_mode added to the padding."""
    if len(call.shape) != 3:
        call.fail("only two-dimensional pooling is supported")
    kernel = pair(call.args[1])
    stride = pair(call.get(2) or kernel)
    top, left = pair(call.get(3, (0, 0)))
    bottom, right = (
        max(before, (out - 1) * step + size - length - before)
        for before, out, step, size, length in zip(
            (top, left),
            call.shape[1:],
            stride,
            kernel,
            builder.shapes[call.args[0]][1:],
            strict=True,
        )
    )
    if bottom >= kernel[0] or right >= kernel[1]:
        call.fail("ceil_mode adds a window outside the image; use ceil_mode=False")
    return kernel, stride, (top, left, bottom, right), (bottom - top, right - left)


def max_pool(builder: Builder, call: Call) -> str:
    """max_pool2d_with_indices: ceil_mode becomes padding."""
    kernel, stride, padding, _ = _pool_window(builder, call)
    if pair(call.get(4, (1, 1))) != (1, 1):
        call.fail("max pooling with dilation is not supported")
    node = MaxPool(**call.common(call.args[0]), kernel=kernel, stride=stride, padding=padding)
    return builder.emit(node)


def avg_pool(builder: Builder, call: Call) -> str:
    """avg_pool2d; ceil_mode becomes padding unless padding counts."""
    kernel, stride, padding, extra = _pool_window(builder, call)
    include = bool(call.get(5, True)) and any(padding)
    if call.get(6) is not None:
        call.fail("divisor_override is not supported")
    if include and any(extra):
        call.fail("ceil_mode with count_include_pad is not supported; switch one of them off")
    return builder.emit(
        AvgPool(
            **call.common(call.args[0]),
            kernel=kernel,
            stride=stride,
            padding=padding,
            count_include_pad=include,
        )
    )


def _adaptive(builder: Builder, call: Call) -> dict[str, Any]:
    """Fixed windows of an adaptive pool, whose output must divide its input."""
    sizes = builder.shapes[call.args[0]][1:]
    if len(call.shape) != 3 or any(s % n for s, n in zip(sizes, call.shape[1:], strict=True)):
        call.fail(f"output {call.shape[1:]} must divide the input's rows and columns {sizes}")
    kernel = tuple(s // n for s, n in zip(sizes, call.shape[1:], strict=True))
    return {"kernel": kernel, "stride": kernel, "padding": (0, 0, 0, 0)}


def adaptive_avg(builder: Builder, call: Call) -> str:
    """_adaptive_avg_pool2d, where the output divides the input."""
    window = _adaptive(builder, call)
    return builder.emit(AvgPool(**call.common(call.args[0]), **window, count_include_pad=False))


def adaptive_max(builder: Builder, call: Call) -> str:
    """adaptive_max_pool2d, where the output divides the input."""
    return builder.emit(MaxPool(**call.common(call.args[0]), **_adaptive(builder, call)))


def mean(builder: Builder, call: Call) -> str:
    """mean over the image, with or without the two axes kept."""
    source = builder.shapes[call.args[0]]
    axes = {axis % (len(source) + 1) for axis in call.get(1) or ()}
    if len(source) != 3 or axes != {2, 3}:
        call.fail("mean is supported over rows and columns together only")
    if len(call.shape) == 3:
        return adaptive_avg(builder, call)
    return builder.emit(GlobalAvgPool(**call.common(call.args[0])))
