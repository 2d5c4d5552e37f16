"""Float nodes become integer nodes, one by one, given the statistics of every tensor."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import float_graph as fg
from . import ir
from .calibrate import Statistics
from .errors import InputError
from .names import printable
from .quant_config import QuantConfig
from .scale_groups import share_scales
from .scales import activation_type, fit, weight_scales

__all__ = ["Lowering"]


class Lowering:
    """Builds integer nodes one by one; `types` and `orders` describe the tensors made so far.

    `orders[name][i]` is the channels-first index of element i of a flattened tensor.
    """

    def __init__(
        self, graph: fg.FloatGraph, config: QuantConfig, statistics: dict[str, Statistics]
    ) -> None:
        self.graph, self.config = graph, config
        self.statistics = share_scales(
            graph, statistics, lambda node: self._bits("act_bits", node.name, node.path)
        )
        self.nodes: list[ir.Node] = []
        self.orders: dict[str, ir.IntArray] = {}
        self.types = {graph.input_name: self._type(graph.input_name, graph.input_name)}
        if len(graph.input_shape) == 1:
            self.orders[graph.input_name] = np.arange(graph.input_shape[0])

    def lower(self, node: fg.FloatNode) -> None:
        """Append the integer node(s) of a float node."""
        if type(node) not in _RULES:
            raise InputError(
                f"layer {printable(node.path)}: {type(node).__name__} has no integer form; "
                "simplify the float graph first"
            )
        if len(node.shape) == 1:
            self.orders[node.name] = np.arange(node.shape[0])
        self.nodes.append(_RULES[type(node)](self, node))

    def operand(self, node: fg.FloatNode) -> ir.TensorType:
        """Type of the only operand."""
        return self.types[node.inputs[0]]

    def _bits(self, key: str, *names: str) -> int:
        for name in names:
            if key in self.config.layers.get(name, {}):
                return self.config.layers[name][key]
        return int(getattr(self.config, key))

    def _type(self, name: str, path: str, least: float = 0.0) -> ir.TensorType:
        return activation_type(
            self.statistics[name],
            self._bits("act_bits", name, path),
            method=self.config.ranges,
            percentile=self.config.percentile,
            pow2=self.config.pow2,
            asymmetric=self.config.asymmetric,
            least=least if self.config.pow2 else 0.0,  # a shift alone cannot enlarge
        )

    def result(self, node: fg.FloatNode, least: float = 0.0) -> ir.TensorType:
        """Choose and record the type of a node's result; its scale is `least` or more with pow2."""
        self.types[node.name] = self._type(node.name, node.path, least)
        return self.types[node.name]

    def limits(self, node: fg.FloatNode, kind: ir.TensorType) -> tuple[int, int]:
        """The fused clamp in steps of `kind`."""
        assert kind.scale is not None

        def step(value: float, unbounded: int) -> int:
            if math.isinf(value):
                return unbounded
            return int(np.clip(round(value / _scale(kind)) + kind.zero_point, kind.lo, kind.hi))

        return step(node.lo, kind.lo), step(node.hi, kind.hi)

    def requantize(
        self, node: fg.FloatNode, ratios: fg.FloatArray, kind: ir.TensorType
    ) -> ir.Requantize:
        """Bring an accumulator to `kind`: real step of the accumulator / step of the result."""
        exponents = np.frexp(ratios)[1] - 1
        if self.config.pow2 and (np.ldexp(1.0, exponents) == ratios).all():
            shifts = np.clip(-exponents, 0, ir.MAX_SHIFT)
            if (shifts == shifts[0]).all():
                shifts = shifts[:1]
            multipliers = np.ones_like(shifts)
        else:
            multipliers, shift = fit(ratios, self.config.m_bits)
            shifts = np.full(len(multipliers), shift)
        lo, hi = self.limits(node, kind)
        return ir.Requantize(multipliers, shifts, kind, self.config.m_bits, lo, hi)

    def is_raw(self, node: fg.FloatNode) -> bool:
        """Whether the accumulators themselves are wanted: only the output or argmax follow."""
        readers = self.graph.consumers(node.name)
        if node.clamped or (readers and node.name == self.graph.output):
            return False
        return all(isinstance(r, fg.ArgMax) for r in readers)

    def linear(self, node: fg.Conv | fg.Dense) -> dict[str, Any]:
        """The fields that a convolution and a dense layer share, weights [out, in, ...]."""
        x_scale, raw = _scale(self.operand(node)), self.is_raw(node)
        bits = self._bits("weight_bits", node.name, node.path)
        steps = weight_scales(
            node.weight,
            node.bias,
            x_scale,
            bits,
            per_channel=self.config.per_channel and not raw,
            pow2=self.config.pow2,
            spread_bits=max(self.config.m_bits - 10, 2),
        )
        top = (1 << (bits - 1)) - 1
        tail = (1,) * (node.weight.ndim - 1)
        weight = np.clip(np.rint(node.weight / steps.reshape(-1, *tail)), -top, top)
        acc_steps = x_scale * steps
        bias = np.rint(node.bias / acc_steps).astype(np.int64)
        requantize = None
        if not raw:
            kind = self.result(node, least=float(acc_steps.max()))
            ratios = acc_steps / _scale(kind)
            ratios = ratios[:1] if (ratios == ratios[0]).all() else ratios
            requantize = self.requantize(node, ratios, kind)
        return {
            "name": node.name,
            "inputs": node.inputs,
            "weight": weight.astype(np.int64),
            "bias": bias,
            "weight_bits": bits,
            "requantize": requantize,
        }


def _scale(kind: ir.TensorType) -> float:
    assert kind.scale is not None
    return kind.scale


def _conv(lowering: Lowering, node: fg.Conv) -> ir.Node:
    fields = lowering.linear(node)
    fields["weight"] = fields["weight"].transpose(0, 2, 3, 1)
    return ir.Conv2d(
        **fields,
        stride=node.stride,
        padding=node.padding,
        dilation=node.dilation,
        groups=node.groups,
    )


def _dense(lowering: Lowering, node: fg.Dense) -> ir.Node:
    fields = lowering.linear(node)
    fields["weight"] = fields["weight"][:, lowering.orders[node.inputs[0]]]
    return ir.Dense(**fields)


def _max_pool(lowering: Lowering, node: fg.MaxPool) -> ir.Node:
    lowering.types[node.name] = lowering.operand(node)
    return ir.MaxPool(
        name=node.name,
        inputs=node.inputs,
        kernel=node.kernel,
        stride=node.stride,
        padding=node.padding,
    )


def _avg_pool(lowering: Lowering, node: fg.AvgPool) -> ir.Node:
    return ir.AvgPool(
        name=node.name,
        inputs=node.inputs,
        requantize=_mean(lowering, node, node.kernel[0] * node.kernel[1]),
        kernel=node.kernel,
        stride=node.stride,
        padding=node.padding,
        count_include_pad=node.count_include_pad,
    )


def _global_avg_pool(lowering: Lowering, node: fg.GlobalAvgPool) -> ir.Node:
    _, rows, columns = lowering.graph.shape(node.inputs[0])
    requantize = _mean(lowering, node, rows * columns)
    return ir.GlobalAvgPool(name=node.name, inputs=node.inputs, requantize=requantize)


def _mean(lowering: Lowering, node: fg.FloatNode, count: int) -> ir.Requantize:
    step = _scale(lowering.operand(node)) / count
    kind = lowering.result(node, least=step)
    return lowering.requantize(node, np.array([step / _scale(kind)]), kind)


def _clamp(lowering: Lowering, node: fg.Clamp) -> ir.Node:
    """A clamp that found no operator to join: a 1x1 average pool, on a vector a concat of one."""
    requantize = _mean(lowering, node, 1)
    if len(node.shape) == 3:
        return ir.AvgPool(
            name=node.name,
            inputs=node.inputs,
            requantize=requantize,
            kernel=(1, 1),
            stride=(1, 1),
        )
    lowering.orders[node.name] = lowering.orders[node.inputs[0]]
    return ir.Concat(
        name=node.name, inputs=node.inputs, requantize=(requantize,), out=requantize.out
    )


def _sum(lowering: Lowering, node: fg.Sum) -> ir.Node:
    kind = lowering.result(node)
    ratios = np.array([_scale(lowering.types[name]) for name in node.inputs]) / _scale(kind)
    multipliers, shift = fit(ratios, lowering.config.m_bits)
    lo, hi = lowering.limits(node, kind)
    _keep_order(lowering, node)
    return ir.Add(
        name=node.name,
        inputs=node.inputs,
        multipliers=(int(multipliers[0]), int(multipliers[1])),
        shift=shift,
        out=kind,
        lo=lo,
        hi=hi,
    )


def _keep_order(lowering: Lowering, node: fg.FloatNode) -> None:
    if len(node.shape) != 1:
        return
    first, *others = (lowering.orders[name] for name in node.inputs)
    if any((order != first).any() for order in others):
        raise InputError(
            f"layer {printable(node.path)}: adds a flattened image to another vector, whose order "
            "differs; put a Linear layer between"
        )
    lowering.orders[node.name] = first


def _concat(lowering: Lowering, node: fg.Concat) -> ir.Node:
    kinds = [lowering.types[name] for name in node.inputs]
    out = lowering.result(node, least=max(_scale(kind) for kind in kinds))
    free = lowering.limits(node, out) == (out.lo, out.hi)
    tables = tuple(
        None
        if free and kind == out
        else lowering.requantize(node, np.array([_scale(kind) / _scale(out)]), out)
        for kind in kinds
    )
    if len(node.shape) == 1:
        orders = [lowering.orders[name] for name in node.inputs]
        starts = np.cumsum([0, *(len(order) for order in orders[:-1])])
        shifted = [order + start for order, start in zip(orders, starts, strict=True)]
        lowering.orders[node.name] = np.concatenate(shifted)
    return ir.Concat(name=node.name, inputs=node.inputs, requantize=tables, out=out)


def _flatten(lowering: Lowering, node: fg.Flatten) -> ir.Node:
    shape = lowering.graph.shape(node.inputs[0])
    index = np.arange(math.prod(shape)).reshape(shape)
    lowering.orders[node.name] = index.transpose(1, 2, 0).ravel()
    lowering.types[node.name] = lowering.operand(node)
    return ir.Flatten(name=node.name, inputs=node.inputs)


def _pad(lowering: Lowering, node: fg.Pad) -> ir.Node:
    lowering.types[node.name] = lowering.operand(node)
    return ir.Pad(name=node.name, inputs=node.inputs, padding=node.padding, channels=node.channels)


def _argmax(lowering: Lowering, node: fg.ArgMax) -> ir.Node:
    order = lowering.orders[node.inputs[0]]
    if (np.diff(order) != 1).any():
        raise InputError(
            f"layer {printable(node.path)}: argmax of a flattened image would count in another "
            "order; put a Linear layer in front"
        )
    return ir.ArgMax(name=node.name, inputs=node.inputs)


_RULES: dict[type[fg.FloatNode], Callable[[Lowering, Any], ir.Node]] = {
    fg.Conv: _conv,
    fg.Dense: _dense,
    fg.MaxPool: _max_pool,
    fg.AvgPool: _avg_pool,
    fg.GlobalAvgPool: _global_avg_pool,
    fg.Clamp: _clamp,
    fg.Sum: _sum,
    fg.Concat: _concat,
    fg.Flatten: _flatten,
    fg.Pad: _pad,
    fg.ArgMax: _argmax,
}
