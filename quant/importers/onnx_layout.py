"""Axes and windows of ONNX operators, read the same way for float and quantised models.

ONNX images are (batch, channels, rows, columns); ours have no batch axis. `padding` is (top, left,
bottom, right) throughout. Sources: the ONNX operator specification of Conv, AveragePool, Reshape.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NoReturn

from ..errors import InputError
from ..names import printable
from .onnx_file import OnnxNode

__all__ = ["Window", "fail", "label", "option", "reshaped", "window"]

MAX_SIZE = 1 << 16  # of a kernel, a stride, a padding


def label(node: OnnxNode) -> str:
    """What messages call a node."""
    return f"layer {printable(node.name)} ({printable(node.op)})"


def fail(node: OnnxNode, what: str) -> NoReturn:
    """Raise InputError naming the node."""
    raise InputError(f"{label(node)}: {what}")


def option(node: OnnxNode, key: str, default: Any) -> Any:
    """An attribute of the type of `default`, or the default; InputError for another type."""
    value = node.attributes.get(key, default)
    if type(value) is int and type(default) is float:
        return float(value)
    if type(value) is not type(default):
        fail(node, f"attribute {key} must be a {type(default).__name__}")
    if type(value) is tuple and any(type(v) is not int for v in value):
        fail(node, f"attribute {key} must hold integers")
    return value


@dataclass(frozen=True)
class Window:
    """Kernel, stride, padding and dilation; `extra` rows and columns come from ceil_mode."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int]
    extra: tuple[int, int]
    image: tuple[int, int]

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns that the window spans, dilation included."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return (kh - 1) * dh + 1, (kw - 1) * dw + 1

    @property
    def result(self) -> tuple[int, int]:
        """Rows and columns of the result."""
        top, left, bottom, right = self.padding
        rows, columns = self.image
        (eh, ew), (sh, sw) = self.extent, self.stride
        return (rows + top + bottom - eh) // sh + 1, (columns + left + right - ew) // sw + 1


def _numbers(node: OnnxNode, key: str, default: tuple[int, ...], least: int) -> tuple[int, ...]:
    values = node.attributes.get(key, default)
    whole = isinstance(values, tuple) and all(type(v) is int for v in values)
    if not whole or len(values) != len(default):
        fail(node, f"attribute {key} must be {len(default)} integers (two-dimensional layers only)")
    if min(values) < least or max(values) > MAX_SIZE:
        fail(node, f"attribute {key} must lie in {least}..{MAX_SIZE}, not {values}")
    return tuple(values)


def window(node: OnnxNode, image: tuple[int, ...], kernel: tuple[int, ...] | None = None) -> Window:
    """The window of Conv (whose `kernel` is the weight's) or a pool over `image` (c, rows, cols).

    auto_pad and ceil_mode become padding. Raises InputError naming the node.
    """
    if len(image) != 3:
        fail(node, "needs an image; its operand is a vector")
    given = _numbers(node, "kernel_shape", kernel or (0, 0), 1)
    if kernel is not None and given != kernel:
        fail(node, f"kernel_shape {given} differs from its weight's {kernel}")
    stride = _numbers(node, "strides", (1, 1), 1)
    dilation = _numbers(node, "dilations", (1, 1), 1)
    begin_end = _numbers(node, "pads", (0, 0, 0, 0), 0)
    sizes = image[1:]
    spans = [(k - 1) * d + 1 for k, d in zip(given, dilation, strict=True)]
    mode = option(node, "auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max((-(-n // s) - 1) * s + e - n, 0)
            for n, s, e in zip(sizes, stride, spans, strict=True)
        ]
        small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
        first, second = (small, large) if mode == "SAME_UPPER" else (large, small)
        begin_end = (*first, *second)
    elif mode == "VALID":
        begin_end = (0, 0, 0, 0)
    elif mode != "NOTSET":
        fail(node, f"auto_pad {printable(str(mode))} is not supported")
    extra = _ceil(node, sizes, begin_end, stride, spans)
    begin_end = (*begin_end[:2], begin_end[2] + extra[0], begin_end[3] + extra[1])
    found = Window(_two(given), _two(stride), _four(begin_end), _two(dilation), extra, _two(sizes))
    if min(found.result) < 1:
        fail(node, f"its window {found.extent} is larger than its padded operand")
    return found


def _two(values: Any) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def _four(values: Any) -> tuple[int, int, int, int]:
    return int(values[0]), int(values[1]), int(values[2]), int(values[3])


def _ceil(
    node: OnnxNode,
    sizes: tuple[int, ...],
    pads: tuple[int, ...],
    stride: tuple[int, ...],
    spans: list[int],
) -> tuple[int, int]:
    """Rows and columns that ceil_mode adds; a window that starts in the padding behind is left."""
    if not option(node, "ceil_mode", 0):
        return 0, 0
    extra = []
    for i in (0, 1):
        padded = sizes[i] + pads[i] + pads[i + 2]
        count = -(-(padded - spans[i]) // stride[i]) + 1
        if (count - 1) * stride[i] >= sizes[i] + pads[i]:
            count -= 1
        extra.append(max((count - 1) * stride[i] + spans[i] - padded, 0))
    return extra[0], extra[1]


def reshaped(node: OnnxNode, source: tuple[int, ...], target: list[int]) -> tuple[int, ...]:
    """The result's shape of Reshape, batch axis included; 0 copies a size, one -1 is computed.

    Raises InputError unless the sizes fit and the batch axis stays.
    """
    keep = not option(node, "allowzero", 0)
    if len(target) > len(source) + 4 or target.count(-1) > 1 or min(target, default=0) < -1:
        fail(node, f"reshapes {source} to {target}, which is no shape")
    sizes = [source[i] if n == 0 and keep and i < len(source) else n for i, n in enumerate(target)]
    total, known = math.prod(source), math.prod(n for n in sizes if n != -1)
    if -1 in sizes and known > 0 and total % known == 0:
        sizes[sizes.index(-1)] = total // known
    if math.prod(sizes) != total or min(sizes, default=0) < 1:
        fail(node, f"reshapes {source} to {target}, which does not fit")
    if sizes[0] != source[0]:
        fail(node, f"reshapes {source} to {tuple(sizes)}: the batch axis must stay in front")
    return tuple(sizes)
