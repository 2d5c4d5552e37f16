"""QONNX models made on the spot, and an evaluator of their meaning in real numbers.

The evaluator is written from the operators' specification, in float64, and shares nothing with the
importer: integer graphs are compared with what it computes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tercet.quant.importers.onnx_file import OnnxGraph, read_onnx
from tercet.quant.importers.onnx_quantised import Imported
from tercet.quant.importers.qonnx import convert
from tercet.quant.quantize import quantize_input
from tercet.quant.reference import Reference

QONNX = "qonnx.custom_op.general"
SHAPE = (3, 6, 5)


class Model:
    """Collects nodes; every method returns the name of its result."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        import onnx

        self.helper, self.numpy_helper = onnx.helper, onnx.numpy_helper
        self.shape = shape
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def constant(self, array: Any, kind: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array, dtype=kind)
        return name

    def op(
        self, kind: str, *inputs: str, domain: str = "", outputs: int = 1, **attributes: Any
    ) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        names = [name, *(f"{name}_{i}" for i in range(1, outputs))]
        node = self.helper.make_node(
            kind, list(inputs), names, name=name, domain=domain, **attributes
        )
        self.nodes.append(node)
        return name

    def quant(
        self,
        x: Any,
        scale: Any,
        bits: float = 8,
        *,
        zero: Any = 0,
        signed: int = 1,
        narrow: int = 0,
        mode: str = "ROUND",
    ) -> str:
        x = x if isinstance(x, str) else self.constant(x)
        operands = (self.constant(scale), self.constant(zero), self.constant(bits))
        options = {"signed": signed, "narrow": narrow, "rounding_mode": mode}
        return self.op("Quant", x, *operands, domain=QONNX, **options)

    def bipolar(self, x: Any, scale: Any = 1.0) -> str:
        x = x if isinstance(x, str) else self.constant(x)
        return self.op("BipolarQuant", x, self.constant(scale), domain=QONNX)

    def batch_norm(self, x: str, channels: int, rng: Any, gain: Any = None) -> str:
        gain = rng.uniform(-1.5, 1.5, channels) if gain is None else gain
        parts = (gain, rng.normal(size=channels), rng.normal(size=channels))
        parts = (*parts, rng.uniform(0.3, 2, channels))
        return self.op("BatchNormalization", x, *map(self.constant, parts), epsilon=1e-5)

    def proto(self, output: str, batch: Any = 1) -> Any:
        helper = self.helper
        graph = helper.make_graph(
            self.nodes,
            "model",
            [helper.make_tensor_value_info("x", 1, [batch, *self.shape])],
            [helper.make_tensor_value_info(output, 1, None)],
            [self.numpy_helper.from_array(a, name) for name, a in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", 13), helper.make_opsetid(QONNX, 1)]
        return helper.make_model(graph, opset_imports=opsets)

    def graph(self, output: str, folder: Path) -> OnnxGraph:
        path = folder / "model.onnx"
        path.write_bytes(self.proto(output).SerializeToString())
        return read_onnx(path)


def _half_up(x: Any) -> Any:
    return np.sign(x) * np.floor(np.abs(x) + 0.5)


ROUND = {
    "ROUND": np.rint,
    "HALF_EVEN": np.rint,
    "FLOOR": np.floor,
    "CEIL": np.ceil,
    "DOWN": np.trunc,
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "HALF_UP": _half_up,
    "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - 0.5),
}


def _clip(x: Any, bits: int, signed: bool, narrow: bool) -> Any:
    if signed:
        return np.clip(x, -(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1)
    return np.clip(x, 0, 2**bits - 1 - narrow)


def _quant(a: dict[str, Any], x: Any, scale: Any, zero: Any, bits: Any) -> Any:
    if bits == 1 and a.get("signed", 1):
        return np.where(x / scale + zero >= 0, scale, -scale)
    y = _clip(x / scale + zero, int(bits), a.get("signed", 1), a.get("narrow", 1))
    return (ROUND[a.get("rounding_mode", "ROUND")](y) - zero) * scale


def _trunc(a: dict[str, Any], x: Any, scale: Any, zero: Any, before: Any, *rest: Any) -> Any:
    y = np.rint(x / scale + zero)
    rounding = ROUND[a.get("rounding_mode", "FLOOR")]
    if len(rest) == 1:
        return (rounding(y / 2.0 ** (before - rest[0])) - zero) * scale
    made, after = rest
    divide = 2.0 ** np.round(np.log2(made / scale))
    y = rounding(_clip(y / divide, int(after), a.get("signed", 1), a.get("narrow", 0)))
    return (y - zero / divide) * made


def _thresholds(a: dict[str, Any], x: Any, rows: Any) -> Any:
    layout = a.get("data_layout") or "NCHW"[: x.ndim]
    last = np.moveaxis(x, layout.index("C"), -1)
    count = (last[..., None] >= rows).sum(-1)
    made = a.get("out_scale", 1.0) * count + a.get("out_bias", 0.0)
    return np.moveaxis(made, -1, layout.index("C"))


def _conv(a: dict[str, Any], x: Any, weight: Any, bias: Any = None) -> Any:
    top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    tensors = [torch.from_numpy(np.ascontiguousarray(t)) for t in (x, weight)]
    strides, dilations = a.get("strides", (1, 1)), a.get("dilations", (1, 1))
    made = torch.conv2d(*tensors, None, tuple(strides), 0, tuple(dilations), a.get("group", 1))
    return made.numpy() + (0 if bias is None else bias.reshape(-1, 1, 1))


def _pool(a: dict[str, Any], x: Any, mean: bool) -> Any:
    top, left, bottom, right = a.get("pads", (0, 0, 0, 0))
    fill = 0.0 if mean else -np.inf
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(x, tuple(a["kernel_shape"]), (2, 3))
    sh, sw = a.get("strides", (1, 1))
    windows = windows[:, :, ::sh, ::sw]
    return windows.mean((-2, -1)) if mean else windows.max((-2, -1))


def _norm(a: dict[str, Any], x: Any, *parts: Any) -> Any:
    gain, shift, mean, variance = (p.reshape(-1, *(1,) * (x.ndim - 2)) for p in parts)
    return (x - mean) / np.sqrt(variance + a["epsilon"]) * gain + shift


def _gemm(a: dict[str, Any], x: Any, weight: Any, bias: Any = 0.0) -> Any:
    weight = weight.T if a.get("transB") else weight
    return a.get("alpha", 1.0) * (x @ weight) + a.get("beta", 1.0) * bias


def _pads(x: Any, pads: Any) -> Any:
    pairs = list(zip(pads[: x.ndim].astype(int), pads[x.ndim :].astype(int), strict=True))
    return np.pad(x, pairs)


RULES: dict[str, Any] = {
    "Quant": _quant,
    "IntQuant": _quant,
    "BipolarQuant": lambda a, x, scale: np.where(x >= 0, scale, -scale),
    "Trunc": _trunc,
    "MultiThreshold": _thresholds,
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": lambda a, x, w: x @ w,
    "BatchNormalization": _norm,
    "Add": lambda a, x, y: x + y,
    "Sub": lambda a, x, y: x - y,
    "Mul": lambda a, x, y: x * y,
    "Div": lambda a, x, y: x / y,
    "Neg": lambda a, x: -x,
    "Relu": lambda a, x: np.maximum(x, 0),
    "Clip": lambda a, x, lo, hi: np.clip(x, lo, hi),
    "MaxPool": lambda a, x: _pool(a, x, False),
    "AveragePool": lambda a, x: _pool(a, x, True),
    "GlobalAveragePool": lambda a, x: x.mean((2, 3), keepdims=True),
    "ReduceMean": lambda a, x: x.mean(tuple(a["axes"]), keepdims=bool(a.get("keepdims", 1))),
    "Concat": lambda a, *xs: np.concatenate(xs, a["axis"]),
    "Flatten": lambda a, x: x.reshape(len(x), -1),
    "Reshape": lambda a, x, shape: x.reshape(len(x), *shape[1:].astype(int)),
    "Transpose": lambda a, x: x.transpose(a.get("perm")),
    "Identity": lambda a, x: x,
    "Pad": lambda a, x, pads: _pads(x, pads),
    "Softmax": lambda a, x: x,
    "ArgMax": lambda a, x: x.argmax(1)[:, None],
    "TopK": lambda a, x, k: (x.max(1)[:, None], x.argmax(1)[:, None]),
}


def evaluate(graph: OnnxGraph, x: Any) -> dict[str, Any]:
    """Every tensor of the model by name, in float64; x is [n, ...]."""
    values = {name: np.asarray(a, dtype=np.float64) for name, a in graph.initializers.items()}
    values[graph.input_name] = np.asarray(x, dtype=np.float64)
    for node in graph.nodes:
        operands = [values[name] for name in node.inputs if name]
        found = RULES[node.op](node.attributes, *operands)
        values.update(zip(node.outputs, found if len(node.outputs) > 1 else [found], strict=True))
    return values


def frames(rng: np.random.Generator, shape: tuple[int, ...] = SHAPE, count: int = 20) -> Any:
    return rng.normal(size=(count, *shape)).astype(np.float32)


def run(model: Model, output: str, folder: Path, x: Any) -> tuple[Imported, Any, Any]:
    """The import, our integers and the model's, both channels last."""
    onnx = model.graph(output, folder)
    found = convert(onnx)
    graph = found.graph
    reference = Reference(graph)
    last = graph.input_shape == onnx.input_shape[1:] and x.ndim == 4
    ours = reference.run(quantize_input(graph, x.transpose(0, 3, 1, 2) if last else x))
    real = evaluate(onnx, x)[output]
    real = real.transpose(0, 2, 3, 1) if real.ndim == 4 else real
    kind = reference.types[graph.output]
    if kind.scale is not None:
        real = real / kind.scale + kind.zero_point
    return found, ours, real.reshape(ours.shape)


def assert_equal(model: Model, output: str, folder: Path, x: Any) -> Imported:
    found, ours, real = run(model, output, folder, x)
    wanted = np.rint(real)
    assert np.abs(real - wanted).max() < 1e-6
    assert len(np.unique(ours)) > 1
    np.testing.assert_array_equal(ours, wanted)
    return found


def form(found: Imported, layer: str) -> str:
    return next(item.form for item in found.exactness if item.layer == layer)


def conv(
    model: Model, x: str, rng: Any, shape: Any = (4, 3, 3, 3), bits: int = 4, **more: Any
) -> str:
    scale = rng.uniform(0.05, 0.2, (shape[0], 1, 1, 1))
    weight = model.quant(rng.normal(size=shape) * 0.4, scale, bits, narrow=1)
    return model.op("Conv", x, weight, **more)
