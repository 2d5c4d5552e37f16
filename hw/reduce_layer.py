"""Pools and arg-max and their folding -> the configurations of their circuits. No Amaranth."""

from __future__ import annotations

from ..quant import ranges
from ..quant.ir import ArgMax, AvgPool, GlobalAvgPool, MaxPool, Requantize, TensorType
from .average import by_count
from .config import clog2
from .fold import Fold, divides
from .reduce_config import ArgMaxConfig, PoolConfig
from .window_config import Size, WindowConfig

__all__ = ["argmax_layer", "pool_layer"]


def pool_layer(
    node: MaxPool | AvgPool | GlobalAvgPool,
    size: Size,
    out_shape: tuple[int, ...],
    kind: TensorType,
    out: TensorType,
    found: ranges.Range,
    fold: Fold,
) -> PoolConfig:
    height, width, channels = size
    divides(node.name, "pe", fold.pe, channels, "channels")
    kernel, stride, padding = (height, width), (1, 1), (0, 0, 0, 0)
    if not isinstance(node, GlobalAvgPool):
        kernel, stride, padding = node.kernel, node.stride, node.padding
    average: Requantize | None = None if isinstance(node, MaxPool) else node.requantize
    taps = tuple(((kh, kw, 0),) for kh in range(kernel[0]) for kw in range(kernel[1]))
    window = WindowConfig(
        height, width, channels, kernel, stride, padding, (1, 1),
        word=fold.pe, lane_bits=kind.bits, taps=taps, passes=tuple(range(channels // fold.pe)),
        depth=1, pad_value=kind.zero_point if average else kind.lo * (not kind.bipolar),
        counted=isinstance(node, AvgPool) and not node.count_include_pad,
    )  # fmt: skip
    if isinstance(node, AvgPool) and window.counted:
        average = by_count(node, window)
    return PoolConfig(
        name=node.name,
        op=type(node).__name__,
        window=window,
        out_shape=out_shape,
        out_lanes=fold.pe,
        out_bits=out.bits,
        out_signed=out.signed,
        act_signed=kind.signed,
        act_bipolar=kind.bipolar,
        requantize=average,
        acc_bits=found.raw_bits,
        zero_point=kind.zero_point,
    )


def argmax_layer(node: ArgMax, elements: int, kind: TensorType, out: TensorType) -> ArgMaxConfig:
    taps = tuple(((0, 0, i),) for i in range(elements))
    window = WindowConfig(
        1, 1, elements, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1),
        word=1, lane_bits=kind.bits, taps=taps, passes=(0,), depth=1,
    )  # fmt: skip
    return ArgMaxConfig(
        name=node.name,
        op="ArgMax",
        window=window,
        out_shape=(1,),
        out_lanes=1,
        out_bits=max(out.bits, clog2(elements)),
        out_signed=False,
        in_bits=kind.bits,
        in_signed=kind.signed and not kind.bipolar,
        elements=elements,
    )
