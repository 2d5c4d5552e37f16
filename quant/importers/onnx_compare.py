"""Our integers beside onnxruntime's, layer by layer.

onnxruntime runs the model without its graph optimisations, so that every quantised tensor exists,
and hands them out; each layer of the integer graph then gets onnxruntime's own operands. What
differs is what that layer alone adds. The final output is compared from end to end as well.
onnxruntime runs the file: compare models that you trust.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import ir
from ..errors import InputError
from ..reference import Reference
from .onnx_model import OnnxModel

__all__ = ["Agreement", "compare"]


@dataclass(frozen=True)
class Agreement:
    """Of one layer: outputs compared, share that differs, largest difference in steps."""

    layer: str
    outputs: int
    share: float
    largest: int


def compare(
    path: Path, model: OnnxModel, x: ir.IntArray
) -> tuple[tuple[Agreement, ...], Agreement | None]:
    """Every layer that has a tensor in the file, and the output from end to end.

    `x` [n, *input_shape] are integers of the graph's input, channels last. `model` is what
    `load_onnx` made of the QDQ or QOperator file `path`. The second result is None where the file
    has no integers for the output. Raises InputError without onnxruntime.
    """
    reference = Reference(model.graph)
    theirs = _tensors(path, model, x)
    ours = reference.execute(x)
    values = {model.graph.input_name: ours[model.graph.input_name]}
    found = []
    for node in model.graph:
        made = reference.evaluate(node, [values[name] for name in node.inputs])
        values[node.name] = made
        if node.name in theirs:
            values[node.name] = theirs[node.name].reshape(made.shape)
            found.append(_agreement(node.name, made, values[node.name]))
    output = model.graph.output
    if output not in theirs:
        return tuple(found), None
    return tuple(found), _agreement(output, ours[output], values[output])


def _agreement(layer: str, ours: ir.IntArray, theirs: ir.IntArray) -> Agreement:
    difference = np.abs(ours - theirs)
    largest = int(difference.max(initial=0))
    return Agreement(layer, difference.size, float((difference > 0).mean()), largest)


def _tensors(path: Path, model: OnnxModel, x: ir.IntArray) -> dict[str, ir.IntArray]:
    """onnxruntime's integers by layer, in the layout of the integer graph."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise InputError("comparing needs onnxruntime: pip install onnxruntime")
    import onnx
    import onnxruntime

    proto = onnx.load(path)
    known = {output.name for output in proto.graph.output}
    wanted = {layer: trace.tensor for layer, trace in model.traces.items()}
    for name in dict.fromkeys(wanted.values()):
        if name not in known:
            proto.graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = list(dict.fromkeys(wanted.values()))
    made = _run(session, names, _frames(model, x, session.get_inputs()[0]))
    return {
        layer: trace.arrange(made[trace.tensor]).astype(np.int64)
        for layer, trace in model.traces.items()
    }


def _run(session: Any, names: list[str], frames: np.ndarray[Any, Any]) -> Mapping[str, Any]:
    """Tensors of all frames; one by one, since the batch axis may be fixed."""
    source = session.get_inputs()[0].name
    parts = [session.run(names, {source: frame[None]}) for frame in frames]
    return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(names)}


def _frames(model: OnnxModel, x: ir.IntArray, source: Any) -> np.ndarray[Any, Any]:
    """The integers x as the file's input: real numbers if it quantises them itself."""
    kind = model.graph.input_type
    shape = source.shape[1:]
    frames = np.asarray(x)
    if frames.ndim == 4 and tuple(shape) != model.graph.input_shape:
        frames = frames.transpose(0, 3, 1, 2)
    if source.type == "tensor(float)":
        assert kind.scale is not None
        real: np.ndarray[Any, Any] = (frames - kind.zero_point).astype(np.float32)
        return real * np.float32(kind.scale)
    return frames.astype(np.int8 if kind.signed else np.uint8)
