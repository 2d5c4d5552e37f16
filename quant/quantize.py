"""Post-training quantisation: a float graph and calibration data become an integer graph.

Weights are symmetric; activations unsigned behind a ReLU, else signed, or affine on request. A
layer's accumulator has scale s_x * s_w; (m, s) takes it to the scale of its result. What each
option does to accuracy is in docs/quantisation.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import float_graph as fg
from . import ir, shapes
from .calibrate import collect
from .errors import InputError
from .lowering import Lowering
from .names import printable
from .quant_config import QuantConfig

__all__ = ["QuantConfig", "quantize", "quantize_input"]


def quantize(graph: fg.FloatGraph, calibration: Any, config: QuantConfig) -> ir.Graph:
    """The integer graph of `graph`; `calibration` [n, *input_shape] sets the activations' ranges.

    The output keeps its raw accumulators where it is a convolution or dense layer without a clamp;
    such a layer has one weight scale, so that its outputs compare. Channels are last. Raises
    InputError for bad data, options of unknown layers and layers that cannot be expressed.
    """
    _check_layers(graph, config)
    statistics = collect(graph, calibration, histogram=config.ranges != "minmax")
    lowering = Lowering(graph, config, statistics)
    for node in graph:
        lowering.lower(node)
    try:
        result = ir.Graph(
            name=graph.name,
            input_name=graph.input_name,
            input_shape=_channels_last(graph.input_shape),
            input_type=lowering.types[graph.input_name],
            nodes=tuple(lowering.nodes),
            output=graph.output,
        )
    except ValueError as error:
        raise InputError(str(error)) from error
    shapes.infer(result)
    return result


def quantize_input(graph: ir.Graph, x: Any) -> ir.IntArray:
    """Real inputs [n, c, h, w] or [n, features] as the graph's integers, channels last.

    Values outside the input's range saturate; a bipolar input takes the sign, +1 for 0. Raises
    InputError for a graph without an input scale, another shape or NaN.
    """
    kind, array = graph.input_type, np.asarray(x, dtype=np.float64)
    if kind.scale is None:
        raise InputError(f"input {graph.input_name} has no scale; give integers")
    if array.ndim == 4:
        array = array.transpose(0, 2, 3, 1)
    if array.ndim != len(graph.input_shape) + 1 or array.shape[1:] != graph.input_shape:
        raise InputError(
            f"inputs have shape {np.shape(x)}; {graph.input_name} needs "
            f"{graph.input_shape} (rows, columns, channels), given channels first"
        )
    if np.isnan(array).any():
        raise InputError("inputs hold NaN")
    if kind.bipolar:
        return np.where(array >= 0, 1, -1).astype(np.int64)
    steps = np.rint(array / kind.scale) + kind.zero_point
    stored: ir.IntArray = np.clip(steps, kind.lo, kind.hi).astype(np.int64)
    return stored


def _check_layers(graph: fg.FloatGraph, config: QuantConfig) -> None:
    known = {graph.input_name, *(node.name for node in graph), *(node.path for node in graph)}
    for layer in config.layers:
        if layer not in known:
            names = ", ".join([graph.input_name, *(node.name for node in graph)])
            raise InputError(f"no layer {printable(layer)}; layers: {printable(names)}")


def _channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[1:], shape[0]) if len(shape) == 3 else shape
