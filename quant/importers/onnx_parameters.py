"""Scales and zero points of a quantised ONNX model, and its quantised constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ir
from ..float_graph import FloatArray
from ..names import printable
from .onnx_file import OnnxNode
from .onnx_layout import fail, option
from .onnx_quantised import QuantisedWalker, Seen, Weight
from .onnx_walk import LAYOUT

__all__ = [
    "PARAMETERS",
    "activation_kind",
    "real_constant",
    "single",
    "stored_weight",
    "weight_operand",
]


def _scale(walker: QuantisedWalker, node: OnnxNode, index: int) -> FloatArray:
    scale = walker.reals(node, index, "scale").reshape(-1)
    if not scale.size or (scale <= 0).any():
        fail(node, "its scale must be positive; quantise the model again")
    return scale


def _zero_point(walker: QuantisedWalker, node: OnnxNode, index: int) -> np.ndarray[Any, Any]:
    zero = walker.constant(node, index, "zero point").reshape(-1)
    if zero.dtype.kind not in "iu":
        fail(node, f"its zero point is {zero.dtype}; it must be an integer")
    return zero


def activation_kind(
    walker: QuantisedWalker, node: OnnxNode, scale: int, zero: int, default: bool = False
) -> ir.TensorType:
    """The type that a scale and a zero point describe; without one: `default` (signed or not)."""
    steps = _scale(walker, node, scale)
    signed, bits, point = default, 8, 0
    if walker.has(node, zero):
        found = _zero_point(walker, node, zero)
        if found.size != 1 or found.dtype.itemsize > 1:
            fail(
                node,
                f"activations need one zero point of int8 or uint8, not {found.size} of "
                f"{found.dtype}; quantise activations per tensor to 8 bits",
            )
        signed, point = found.dtype.kind == "i", int(found[0])
        bits = 4 if node.inputs[zero] in walker.graph.four_bit else 8
    if steps.size != 1:
        fail(node, f"has {steps.size} scales; activations need one, quantise them per tensor")
    return ir.TensorType(bits, signed, point, scale=float(steps[0]))


def real_constant(walker: QuantisedWalker, node: OnnxNode, index: int, what: str) -> FloatArray:
    """A constant operand as float64, dequantised if it is quantised."""
    if walker.has(node, index) and node.inputs[index] in walker.weights:
        return walker.weights[node.inputs[index]].real
    return walker.reals(node, index, what)


def single(walker: QuantisedWalker, node: OnnxNode, index: int, what: str) -> float:
    """A constant operand of one number."""
    values = real_constant(walker, node, index, what).reshape(-1)
    if values.size != 1:
        fail(node, f"{what} has {values.size} numbers; it must be one")
    return float(values[0])


def weight_operand(walker: QuantisedWalker, node: OnnxNode, index: int) -> Weight:
    """The quantised weight of a layer."""
    name = node.inputs[index] if index < len(node.inputs) else ""
    if name in walker.constants:
        fail(
            node,
            f"its weight {printable(name)} is not quantised (missing scales); quantise weights too",
        )
    if name not in walker.weights:
        fail(node, "its weight is computed by the network; it must be constant")
    weight = walker.weights[name]
    if weight.bits > 8:
        fail(node, f"its weight has {weight.bits} bits; quantise weights to 8 bits or 4")
    return weight


def stored_weight(walker: QuantisedWalker, node: OnnxNode, index: int, axis: int) -> Weight:
    """Operands index, index + 1, index + 2: integers, scale and zero point of a constant."""
    q = walker.constant(node, index, "constant")
    if q.dtype.kind not in "iu":
        fail(node, f"{printable(node.inputs[index])} holds {q.dtype}; it must hold integers")
    scale = _scale(walker, node, index + 1)
    zero = np.zeros(1, dtype=np.int64)
    if walker.has(node, index + 2):
        zero = _zero_point(walker, node, index + 2).astype(np.int64)
    axis = axis % max(q.ndim, 1)
    sizes = {scale.size, zero.size} - {1}
    if sizes and (not q.ndim or sizes != {q.shape[axis]}):
        fail(node, f"{scale.size} scales do not fit a constant of shape {q.shape}, axis {axis}")
    bits = 4 if node.inputs[index] in walker.graph.four_bit else 8 * q.dtype.itemsize
    return Weight(q.astype(np.int64), scale, zero, axis, bits)


def _quantize(walker: QuantisedWalker, node: OnnxNode) -> Seen | None:
    """QuantizeLinear: the layer in front of it gets its type."""
    _check_blocks(node)
    if node.inputs[0] in walker.constants or node.inputs[0] in walker.weights:
        _quantize_constant(walker, node)
        return None
    value: Seen = walker.operand(node)
    if value.final:
        return value
    value = walker.real(node)
    kind = activation_kind(walker, node, 1, 2)
    if value.pending is None:
        if value.kind == kind:
            return _seen(value, real=False)
        value = walker.rescaled(node, value)
    return walker.settle(value, kind)


def _quantize_constant(walker: QuantisedWalker, node: OnnxNode) -> None:
    """A weight that is quantised in the file, rounded as ONNX does: half to even."""
    real = real_constant(walker, node, 0, "constant").astype(np.float32)
    scale = _scale(walker, node, 1).astype(np.float32)
    zero = np.zeros(1, dtype=np.uint8)
    if walker.has(node, 2):
        zero = _zero_point(walker, node, 2)
    axis = option(node, "axis", 1) % max(real.ndim, 1)
    shape = [-1 if i == axis else 1 for i in range(real.ndim)]
    for values in (scale, zero):
        if values.size != 1 and (not real.ndim or values.size != real.shape[axis]):
            fail(node, f"{values.size} scales do not fit a constant of shape {real.shape}")
    spread, offset = (v.reshape(()) if v.size == 1 else v.reshape(shape) for v in (scale, zero))
    limits = np.iinfo(zero.dtype)
    steps = np.rint(real / spread).astype(np.float64) + offset
    walker.constants[node.outputs[0]] = np.clip(steps, limits.min, limits.max).astype(zero.dtype)


def _dequantize(walker: QuantisedWalker, node: OnnxNode) -> Seen | None:
    """DequantizeLinear: integers are seen as real numbers from here on."""
    _check_blocks(node)
    if node.inputs[0] in walker.constants:
        weight = stored_weight(walker, node, 0, option(node, "axis", 1))
        walker.weights[node.outputs[0]] = weight
        return None
    value: Seen = walker.operand(node)
    if value.final:
        return value
    default = walker.graph.input_dtype.kind == "i"
    if value.kind is not None:
        default = value.kind.signed
    kind = activation_kind(walker, node, 1, 2, default)
    return _seen(walker.integer(node, 0, kind), real=True)


def _seen(value: Seen, real: bool) -> Seen:
    return Seen(**{**vars(value), "real": real})


def _check_blocks(node: OnnxNode) -> None:
    if len(node.inputs) < 2 or not node.inputs[0]:
        fail(node, "has no scale; quantise the model again")
    if option(node, "block_size", 0):
        fail(node, "scales per block are not supported; quantise per tensor or per channel")


def _transpose(walker: QuantisedWalker, node: OnnxNode) -> Any:
    """Of a quantised constant here, of a tensor as everywhere."""
    weight = walker.weights.get(node.inputs[0])
    if weight is None:
        return LAYOUT[node.op](walker, node)
    rank = weight.q.ndim
    perm = option(node, "perm", tuple(range(rank))[::-1])
    if sorted(perm) != list(range(rank)):
        fail(node, f"perm {perm} does not name the {rank} axes of its operand")
    turned = Weight(
        weight.q.transpose(perm),
        weight.scale,
        weight.zero_point,
        perm.index(weight.axis) if rank else 0,
        weight.bits,
    )
    walker.weights[node.outputs[0]] = turned
    return None


def _identity(walker: QuantisedWalker, node: OnnxNode) -> Any:
    if node.inputs[0] in walker.weights:
        walker.weights[node.outputs[0]] = walker.weights[node.inputs[0]]
        return None
    return LAYOUT[node.op](walker, node)


PARAMETERS = {
    "DequantizeLinear": _dequantize,
    "Identity": _identity,
    "QuantizeLinear": _quantize,
    "Transpose": _transpose,
}
