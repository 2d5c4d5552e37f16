"""Score B: how much of the predicted class's logit flows through a neuron.

Relevance flows backwards from the predicted class and splits among the operands of a sum by the
size of their terms: r_i = sum over j of |w_ij a_i| / (sum over i' of |w_i'j a_i'|) r_j. After
Schorn, Guntoro, Ascheid, "Accurate neuron resilience prediction for a flexible reliability
management in neural network accelerators" (DATE 2018), from memory, and layer-wise relevance
propagation (Bach et al., PLoS ONE 10(7), 2015), here with absolute values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

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
)
from .propagate import Propagation

__all__ = ["contributions"]

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
CHUNK_IMAGES = 64


def contributions(run: Propagation) -> dict[str, FloatArray]:
    """Mean relevance of each neuron's positions in each image: [images, out_channels] by layer."""
    images = len(run.top1)
    parts = [_relevance(run, slice(i, i + CHUNK_IMAGES)) for i in range(0, images, CHUNK_IMAGES)]
    return {
        node.name: np.concatenate([_per_channel(part[node.name]) for part in parts])
        for node in run.model.graph
        if isinstance(node, Conv2d | Dense)
    }


def _per_channel(relevance: FloatArray) -> FloatArray:
    found: FloatArray = relevance.reshape(len(relevance), -1, relevance.shape[-1]).mean(axis=1)
    return found


def _relevance(run: Propagation, images: slice) -> dict[str, FloatArray]:
    """Relevance of every element of every tensor; that of each tensor sums to 1 or less."""
    graph, top1 = run.model.graph, run.top1[images]
    found = {name: np.zeros(run.golden[name][images].shape) for name in run.golden}
    flat = found[graph.output].reshape(len(top1), -1)
    flat[np.arange(len(top1)), 0 if isinstance(graph.nodes[-1], ArgMax) else top1] = 1.0
    for node in reversed(graph.nodes):
        operands = [
            (run.golden[name][images] - run.model.types[name].zero_point).astype(np.float64)
            for name in node.inputs
        ]
        shares = _split(run, node, operands, run.golden[node.name][images], found[node.name])
        for name, share in zip(node.inputs, shares, strict=True):
            found[name] += share
    return found


def _split(
    run: Propagation,
    node: Node,
    operands: list[FloatArray],
    result: IntArray,
    relevance: FloatArray,
) -> list[FloatArray]:
    """What each operand of a node gets of its result's relevance."""
    sizes = [np.abs(operand) for operand in operands]
    match node:
        case Dense():
            weight = np.abs(node.weight).astype(np.float64)
            return [sizes[0] * (_over(relevance, sizes[0] @ weight.T) @ weight)]
        case Conv2d():
            return [_conv(node, sizes[0], relevance)]
        case MaxPool():
            zero = run.model.types[node.inputs[0]].zero_point
            return [_winners(node, operands[0] + zero, result, relevance)]
        case AvgPool():
            return [_window_mean(node, sizes[0], relevance)]
        case GlobalAvgPool():
            total = sizes[0].sum(axis=(1, 2))
            return [sizes[0] * _over(relevance, total)[:, None, None, :]]
        case Add():
            terms = [size * m for size, m in zip(sizes, node.multipliers, strict=True)]
            each = _over(relevance, terms[0] + terms[1])
            return [term * each for term in terms]
        case Concat():
            ends = np.cumsum([operand.shape[-1] for operand in operands])[:-1]
            return np.split(relevance, ends, axis=-1)
        case Flatten():
            return [relevance.reshape(operands[0].shape)]
        case Pad():
            return [_inside(relevance, (*node.padding,), operands[0].shape, node.channels[0])]
        case ArgMax():
            winner = np.zeros(operands[0].shape)
            winner[np.arange(len(winner)), result[:, 0]] = relevance[:, 0]
            return [winner]
    raise InputError(f"{node.name}: unknown operator {type(node).__name__}")


def _over(relevance: FloatArray, total: FloatArray) -> FloatArray:
    """relevance / total, 0 where the total is: nothing flowed into that sum but its bias."""
    return np.divide(relevance, total, out=np.zeros_like(relevance), where=total > 0)


def _inside(
    image: FloatArray, padding: tuple[int, ...], shape: tuple[int, ...], channel: int = 0
) -> FloatArray:
    """The part of a padded image that stems from the operand of this shape."""
    top, left = padding[:2]
    return image[
        :, top : top + shape[1], left : left + shape[2], channel : channel + shape[3]
    ].copy()


def _padded(image: FloatArray, padding: tuple[int, int, int, int], value: float) -> FloatArray:
    top, left, bottom, right = padding
    return np.pad(image, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)


def _places(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    size: tuple[int, ...],
    dilation: tuple[int, int] = (1, 1),
) -> list[tuple[int, int, tuple[slice, ...]]]:
    """For each kernel place (row, column) the elements of the image that it meets."""
    return [
        (
            i,
            j,
            (
                slice(None),
                slice(i * dilation[0], i * dilation[0] + (size[0] - 1) * stride[0] + 1, stride[0]),
                slice(j * dilation[1], j * dilation[1] + (size[1] - 1) * stride[1] + 1, stride[1]),
            ),
        )
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]


def _conv(node: Conv2d, size: FloatArray, relevance: FloatArray) -> FloatArray:
    """Grouped convolution: [n, h, w, group, channel of the group] times [group, in, out]."""
    groups, image = node.groups, _padded(size, node.padding, 0.0)
    per_group = image.shape[-1] // groups
    image = image.reshape(*image.shape[:3], groups, 1, per_group)
    weight = np.abs(node.weight).astype(np.float64)
    weight = weight.reshape(groups, -1, *weight.shape[1:]).transpose(0, 2, 3, 4, 1)
    out = (*relevance.shape[:3], groups, 1, relevance.shape[-1] // groups)
    places = _places(node.kernel, node.stride, relevance.shape[1:3], node.dilation)
    total = np.zeros(out)
    for i, j, where in places:
        total += image[where] @ weight[:, i, j]
    each = _over(relevance.reshape(out), total)
    back = np.zeros_like(image)
    for i, j, where in places:
        back[where] += each @ weight[:, i, j].transpose(0, 2, 1)
    found = (image * back).reshape(*image.shape[:3], -1)
    return _inside(found, node.padding, size.shape)


def _winners(
    node: MaxPool, operand: FloatArray, result: IntArray, relevance: FloatArray
) -> FloatArray:
    """A window's largest elements share what its result has."""
    image = _padded(operand, node.padding, operand.min() - 1)
    places = _places(node.kernel, node.stride, relevance.shape[1:3])
    equal = [image[where] == result for _, _, where in places]
    each = _over(relevance, np.sum(equal, axis=0, dtype=np.float64))
    back = np.zeros_like(image)
    for (_, _, where), won in zip(places, equal, strict=True):
        back[where] += won * each
    return _inside(back, node.padding, operand.shape)


def _window_mean(node: AvgPool, size: FloatArray, relevance: FloatArray) -> FloatArray:
    image = _padded(size, node.padding, 0.0)
    places = _places(node.kernel, node.stride, relevance.shape[1:3])
    total = np.sum([image[where] for _, _, where in places], axis=0)
    each, back = _over(relevance, total), np.zeros_like(image)
    for _, _, where in places:
        back[where] += each
    return _inside(image * back, node.padding, size.shape)
