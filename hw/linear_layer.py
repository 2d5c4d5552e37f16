"""Convolution or dense node and its folding -> the configuration of its circuit. No Amaranth."""

from __future__ import annotations

import functools
from dataclasses import replace
from math import gcd
from typing import Any

import numpy as np

from ..quant.errors import InputError
from ..quant.ir import Conv2d, Dense, IntArray, TensorType
from .fold import MULTIPLIERS, Fold, Protection, divides
from .linear_config import LinearConfig, repeated_passes
from .pixels import check_pixels, strip
from .window_config import Size, Tap, WindowConfig

__all__ = ["formed", "linear_layer", "out_lanes"]

BUDGET = 0.17
"""Share of a layer's multiplications that "auto" lets the filter form repeat (S0's overhead)."""


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
    """The configuration of a node that reads images of `size` and elements of `kind`.

    `acc_bits` hold every partial sum. Raises InputError naming the layer and the folding's number.
    """
    weight = node.weight.reshape(node.out_channels, -1)
    inner, neurons = weight.shape[1], node.out_channels
    _check(node, fold, inner)
    if fold.pixels != 1:
        assert isinstance(node, Conv2d)
        window, picks = _pixels_side_by_side(node, size, kind, fold)
    else:
        window, picks = _folded(node, size, kind, fold)
    pe, steps = fold.pe * fold.pixels, inner // fold.simd
    redundancy = _redundancy(node, fold, guard)
    passes = repeated_passes(len(window.passes), redundancy.get("repeated", ()))
    window = replace(window, passes=tuple(window.passes[p] for p in passes))
    bias = node.bias - kind.zero_point * weight.sum(axis=1)
    lanes = out_lanes(pe, steps)
    rows, columns = window.out_size
    return LinearConfig(
        name=node.name,
        op=type(node).__name__,
        window=window,
        out_shape=(rows, columns * fold.pixels, neurons)
        if isinstance(node, Conv2d)
        else (neurons,),
        out_lanes=lanes,
        out_bits=out.bits,
        out_signed=out.signed,
        beats=pe // lanes,
        pe=pe,
        simd=fold.simd,
        act_signed=kind.signed,
        act_bipolar=kind.bipolar,
        weight=_tiled(weight, fold.pixels).reshape(-1, pe, steps, fold.simd),
        weight_bits=node.weight_bits,
        bias=_tiled(bias, fold.pixels).reshape(-1, pe),
        # A flip that wraps would be 0 modulo 3: one guard bit under a residue. An exact sum tells
        # +-2^k from +-2^k -+ 2^acc_bits.
        acc_bits=acc_bits + isinstance(guard.modulus, int),
        group_lanes=pe // len(picks),
        picks=picks,
        pixels=fold.pixels,
        multiplier=fold.multiplier,
        weights=fold.weights,
        requantize=node.requantize,
        weight_code=guard.weights,
        modulus=guard.modulus,
        form=guard.form,
        retry=guard.retry,
        macs=window.windows * fold.pixels * weight.size,
        **redundancy,
    )


def formed(layer: LinearConfig) -> LinearConfig:
    """The layer with the form of its checksum decided: "auto" is the filter form while it is cheap.

    It flags the group that is wrong and needs no second copy of the weights. Above `BUDGET` of the
    layer's multiplications the input form is taken where it needs fewer and ends in time. Raises
    InputError where the input form is wanted and does not, or with retry.
    """
    if layer.modulus is None and layer.retry:
        raise InputError(
            f"layer {layer.name}: retry = {layer.retry} needs a check to fail; set a checksum's "
            "modulus, or retry = 0"
        )
    if layer.modulus is None or layer.form == "filter":
        return replace(layer, form="filter") if layer.form != "filter" else layer
    check = replace(layer, form="input").input_check
    if layer.form == "input":
        if layer.retry:
            raise InputError(
                f"layer {layer.name}: the input form of a checksum knows only at a frame's end; "
                'set retry = 0, or form = "filter"'
            )
        if check.refusal():
            raise InputError(f'layer {layer.name}: {check.refusal()}; set form = "filter"')
        return layer
    filtered = layer.window.windows * check.words * layer.elements
    cheap = layer.retry or filtered <= BUDGET * layer.macs
    wanted = not cheap and check.macs < filtered and check.parallel
    return replace(layer, form="input" if wanted else "filter")


def _redundancy(node: Conv2d | Dense, fold: Fold, guard: Protection) -> dict[str, Any]:
    """The configuration's fields about the neurons in triple modular redundancy."""
    lanes = {p * node.out_channels + n % fold.pe for n in guard.neurons for p in range(fold.pixels)}
    found = tuple(sorted(lanes))
    if guard.mode == "spatial" or not found:
        return {"replicated": found, "voters": guard.voters}
    if guard.voters != 1:
        raise InputError(
            f"layer {node.name}: tmr in time has one result to vote and no replicas to reload; set "
            'voters = 1, or mode = "spatial"'
        )
    return {"repeated": tuple(sorted({n // fold.pe for n in guard.neurons})), "voted": found}


def _tiled(values: IntArray, pixels: int) -> IntArray:
    """Each pixel's copy of an array, one after the other; a single one is not copied."""
    return np.broadcast_to(values, (pixels, *values.shape))


def _check(node: Conv2d | Dense, fold: Fold, inner: int) -> None:
    """InputError for numbers of a folding that have no circuit, whatever the image is."""
    divides(node.name, "simd", fold.simd, inner, "inputs of a neuron")
    if fold.multiplier not in MULTIPLIERS:
        raise InputError(
            f"layer {node.name}: multiplier {fold.multiplier!r} is not {', '.join(MULTIPLIERS)}"
        )
    if fold.weights not in ("auto", "block", "logic"):
        raise InputError(f"layer {node.name}: weights {fold.weights!r} is not auto, block or logic")
    if isinstance(node, Dense) and fold.pixels != 1:
        raise InputError(f"layer {node.name}: a dense layer has one pixel; set pixels = 1")


def _bare(node: Conv2d, size: Size, kind: TensorType) -> WindowConfig:
    """The window of one output pixel, whole pixels a word."""
    height, width, channels = size
    return WindowConfig(
        height, width, channels, node.kernel, node.stride, node.padding, node.dilation,
        word=channels, lane_bits=kind.bits, taps=((),), passes=(0,), depth=1,
        pad_value=kind.zero_point,
    )  # fmt: skip


def _pixels_side_by_side(
    node: Conv2d, size: Size, kind: TensorType, fold: Fold
) -> tuple[WindowConfig, tuple[tuple[int, ...], ...]]:
    """Several output pixels a cycle: all neurons, all their inputs, for each of them."""
    bare = _bare(node, size, kind)
    whole = {"pe": node.out_channels, "simd": node.weight[0].size}
    check_pixels(node, size, (*bare.out_size, node.out_channels), fold, whole)
    found = strip(bare, fold.pixels)
    per_group = size[2] // node.groups
    picks = tuple(
        tuple(pick[:, g * per_group : (g + 1) * per_group].ravel().tolist())
        for pick in found.picks
        for g in range(node.groups)
    )
    return found.window, picks


def _folded(
    node: Conv2d | Dense, size: Size, kind: TensorType, fold: Fold
) -> tuple[WindowConfig, tuple[tuple[int, ...], ...]]:
    """One output pixel after the other; `pe` neurons a pass, `simd` of their inputs a step."""
    height, width, channels = size
    groups, kernel, stride, padding, dilation = 1, (1, 1), (1, 1), (0, 0, 0, 0), (1, 1)
    if isinstance(node, Conv2d):
        groups, kernel, stride = node.groups, node.kernel, node.stride
        padding, dilation = node.padding, node.dilation
    pe, simd, inner = fold.pe, fold.simd, node.weight[0].size
    per_group, outputs = channels // groups, node.out_channels // groups
    side_by_side = _groups_side_by_side(node.name, pe, simd, groups, outputs, per_group)
    passes, steps = node.out_channels // pe, inner // simd
    part = gcd(simd, per_group)
    word = part * side_by_side
    taps = _taps(steps, simd, part, kernel[1], per_group)
    bases = tuple(p * pe // outputs * per_group // word for p in range(passes))
    window = WindowConfig(
        height, width, channels, kernel, stride, padding, dilation,
        word=word, lane_bits=kind.bits, taps=taps, passes=bases, depth=1, pad_value=kind.zero_point,
    )  # fmt: skip
    return window, _picks(simd, part, side_by_side)


@functools.lru_cache(maxsize=1024)
def _picks(simd: int, part: int, groups: int) -> tuple[tuple[int, ...], ...]:
    """What the lanes of each group take of the words, which hold `part` elements of each group."""
    ports, word = range(simd // part), part * groups
    return tuple(
        tuple(port * word + g * part + c for port in ports for c in range(part))
        for g in range(groups)
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
