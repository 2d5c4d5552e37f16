"""Convolution or dense node and its folding -> the configuration of its circuit. No Amaranth."""

from __future__ import annotations

import functools
from math import gcd

from ..quant.errors import InputError
from ..quant.ir import Conv2d, Dense, TensorType
from .fold import MULTIPLIERS, Fold, Protection, divides
from .linear_config import LinearConfig
from .window_config import Size, Tap, WindowConfig

__all__ = ["linear_layer", "out_lanes"]


def out_lanes(pe: int, steps: int) -> int:
    """Lanes that leave side by side: the fewest that drain `pe` results in fewer than `steps`."""
    for lanes in range(1, pe):
        if pe % lanes == 0 and pe // lanes < steps:
            return lanes
    return pe


def linear_layer(
    node: Conv2d | Dense,
    size: Size,
    kind: TensorType,
    out: TensorType,
    acc_bits: int,
    fold: Fold,
    guard: Protection,
) -> LinearConfig:
    height, width, channels = size
    weight = node.weight.reshape(node.out_channels, -1)
    groups, kernel, stride, padding, dilation = 1, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1)
    if isinstance(node, Conv2d):
        groups, kernel, stride = node.groups, node.kernel, node.stride
        padding, dilation = node.padding, node.dilation
    inner = weight.shape[1]
    pe, simd = fold.pe, fold.simd
    divides(node.name, "simd", simd, inner, "inputs of a neuron")
    per_group, outputs = channels // groups, node.out_channels // groups
    side_by_side = _groups_side_by_side(node.name, pe, simd, groups, outputs, per_group)
    if fold.multiplier not in MULTIPLIERS:
        raise InputError(
            f"layer {node.name}: multiplier {fold.multiplier!r} is not {', '.join(MULTIPLIERS)}"
        )
    if fold.weights not in ("auto", "block", "logic"):
        raise InputError(f"layer {node.name}: weights {fold.weights!r} is not auto, block or logic")
    passes, steps = node.out_channels // pe, inner // simd
    part = gcd(simd, per_group)
    word = part * side_by_side
    taps = _taps(steps, simd, part, kernel[1], per_group)
    bases = tuple(p * pe // outputs * per_group // word for p in range(passes))
    window = WindowConfig(
        height, width, channels, kernel, stride, padding, dilation,
        word=word, lane_bits=kind.bits, taps=taps, passes=bases, depth=1, pad_value=kind.zero_point,
    )  # fmt: skip
    bias = node.bias - kind.zero_point * weight.sum(axis=1)
    lanes = out_lanes(pe, steps)
    rows, columns = window.out_size
    return LinearConfig(
        name=node.name,
        op=type(node).__name__,
        window=window,
        out_shape=(rows, columns, node.out_channels)
        if isinstance(node, Conv2d)
        else (node.out_channels,),
        out_lanes=lanes,
        out_bits=out.bits,
        out_signed=out.signed,
        beats=pe // lanes,
        pe=pe,
        simd=simd,
        act_signed=kind.signed,
        act_bipolar=kind.bipolar,
        weight=weight.reshape(passes, pe, steps, simd),
        weight_bits=node.weight_bits,
        bias=bias.reshape(passes, pe),
        # A flip that wraps would be 0 modulo 3: one guard bit under a checksum.
        acc_bits=acc_bits + (guard.modulus is not None),
        group_lanes=pe // side_by_side,
        multiplier=fold.multiplier,
        weights=fold.weights,
        requantize=node.requantize,
        replicated=tuple(sorted({n % pe for n in guard.neurons})),
        modulus=guard.modulus,
        macs=window.windows * weight.size,
    )


def _groups_side_by_side(
    layer: str, pe: int, simd: int, groups: int, outputs: int, per_group: int
) -> int:
    """Groups that `pe` lanes compute at once: part of one group, or several whole groups."""
    if pe <= outputs:
        divides(layer, "pe", pe, outputs, "output channels of a group")
        return 1
    divides(layer, "pe", pe, groups * outputs, "output channels")
    if pe % outputs:
        raise InputError(
            f"layer {layer}: pe = {pe} lanes hold no whole number of groups of {outputs} output "
            f"channels; choose a multiple or a divisor of {outputs}"
        )
    if simd % per_group:
        raise InputError(
            f"layer {layer}: pe = {pe} computes {pe // outputs} groups side by side, which read "
            f"whole pixels of a group: simd = {simd} must be a multiple of {per_group}"
        )
    return pe // outputs


@functools.lru_cache(maxsize=1024)
def _taps(
    steps: int, simd: int, word: int, columns: int, per_group: int
) -> tuple[tuple[Tap, ...], ...]:
    """What each port reads in each step: `simd` elements, `word` a port."""
    return tuple(
        tuple(
            _tap(step * simd + port * word, columns, per_group, word)
            for port in range(simd // word)
        )
        for step in range(steps)
    )


def _tap(index: int, columns: int, per_group: int, word: int) -> Tap:
    """Where element `index` of a window in (row, column, channel) order lies."""
    pixel, channel = divmod(index, per_group)
    return pixel // columns, pixel % columns, channel // word
