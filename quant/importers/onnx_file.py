"""A FILE.onnx that may come from anywhere becomes a small plain graph.

The `onnx` package parses the protobuf and does nothing else. Domains, operator types and opsets are
checked against `onnx_operators` first; sub-graphs and local functions are refused; constants are
read by `onnx_tensors` under limits. No file from outside the model's folder is opened.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..names import printable
from ..shapes import MAX_ELEMENTS
from .onnx_operators import OPERATORS, OPSETS, STANDARD
from .onnx_tensors import FOUR_BIT, Array, TensorReader

__all__ = ["OnnxGraph", "OnnxNode", "read_onnx"]

MAX_BYTES = 128 << 20  # of the file itself
MAX_NODES = 20_000
_DTYPES: dict[int, Any] = {
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    10: np.float16,
    11: np.float64,
}
# AttributeProto.AttributeType: number -> field.
_FIELDS = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints", 8: "strings"}


@dataclass(frozen=True)
class OnnxNode:
    """An operator. `name` is the file's, or that of its first output; never empty.

    `domain` is "" for standard operators. Missing optional inputs are "". Attributes are int,
    float, str, an array, or a tuple of int, float or str.
    """

    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class OnnxGraph:
    """A network in topological order with one input and one output.

    `input_shape` has the batch axis in front, 1 where the file leaves it open. `initializers` are
    read-only arrays and hold the results of Constant nodes as well; those of
    `four_bit` are 4-bit integers in int8 or uint8. `opset` is the standard one.
    """

    name: str
    nodes: tuple[OnnxNode, ...]
    initializers: dict[str, Array]
    input_name: str
    input_shape: tuple[int, ...]
    input_dtype: np.dtype[Any]
    output_name: str
    opset: int
    four_bit: frozenset[str] = frozenset()


def read_onnx(path: Path) -> OnnxGraph:
    """Read and check FILE.onnx.

    Raises InputError, naming the file and the node: `onnx` is not installed; a file that is too
    large, truncated or no ONNX; an operator, domain or opset that is not known; local functions and
    sub-graphs; nodes out of order, cycles and unknown inputs; an axis without a size that is not
    the batch axis; constants that are too large or lie elsewhere.
    """
    path = Path(path)
    model = _parse(path)
    try:
        return _Reader(model, path).graph()
    except InputError as error:
        raise InputError(f"{printable(path.name)}: {error}") from None


def _parse(path: Path) -> Any:
    shown = printable(path.name)
    if not path.is_file():
        raise InputError(f"{printable(str(path))}: no such file")
    if importlib.util.find_spec("onnx") is None:
        raise InputError("reading an ONNX file needs onnx: pip install 'tercet[onnx]'")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(
            f"{shown}: has more than {MAX_BYTES} bytes; keep large weights in external data"
        )
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    try:
        model = ModelProto.FromString(path.read_bytes())
    except DecodeError as error:
        raise InputError(f"{shown}: truncated or not an ONNX file; export it again") from error
    if not model.HasField("graph") or not model.opset_import:
        raise InputError(f"{shown}: holds no network; it is truncated or not an ONNX file")
    return model


def _texts(model: Any) -> Iterator[Any]:
    """Every string that the reader uses; protobuf leaves those that are no text as bytes."""
    proto = model.graph
    yield proto.name
    yield from (item.domain for item in model.opset_import)
    for node in proto.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    for tensor in (*proto.initializer, *(a.t for n in proto.node for a in n.attribute)):
        yield tensor.name
        yield from (text for entry in tensor.external_data for text in (entry.key, entry.value))
    for info in (*proto.input, *proto.output):
        yield info.name
        yield from (axis.dim_param for axis in info.type.tensor_type.shape.dim)


class _Reader:
    """Checks of one parsed model, in the order in which they protect each other."""

    def __init__(self, model: Any, path: Path) -> None:
        self.model, self.proto = model, model.graph
        if not all(isinstance(text, str) for text in _texts(model)):
            raise InputError("holds a name that is no text; the file is damaged, export it again")
        self.name = model.graph.name or path.stem
        self.tensors = TensorReader(path.parent)
        self.opsets = {_domain(item.domain): int(item.version) for item in model.opset_import}

    def graph(self) -> OnnxGraph:
        self._check_operators()
        initializers = {item.name: item for item in self.proto.initializer}
        if len(initializers) != len(self.proto.initializer) or "" in initializers:
            raise InputError("two constants have one name, or one has none; export it again")
        inputs = [item for item in self.proto.input if item.name not in initializers]
        if len(inputs) != 1 or len(self.proto.output) != 1:
            raise InputError(
                f"the network has {len(inputs)} inputs and {len(self.proto.output)} outputs; "
                "cut it to one each (onnx.utils.extract_model)"
            )
        source, dtype, shape = inputs[0].name, *self._input(inputs[0])
        arrays = {name: self.tensors.read(item, name) for name, item in initializers.items()}
        nodes = []
        for index, item in enumerate(self.proto.node):
            node = self._node(item, index)
            if node.op == "Constant":
                arrays[node.outputs[0]] = _constant(node)
            else:
                nodes.append(node)
        output = self.proto.output[0].name
        _check_order(nodes, {source, *arrays}, output)
        opset = self.opsets.get(STANDARD, OPSETS[STANDARD][0])
        small = frozenset(n for n, item in initializers.items() if item.data_type in FOUR_BIT)
        return OnnxGraph(
            self.name, tuple(nodes), arrays, source, shape, dtype, output, opset, small
        )

    def _check_operators(self) -> None:
        """Domains, operator types and opsets of every node; nothing nested."""
        if self.model.functions:
            raise InputError(
                "holds local functions; inline them (onnx.inliner.inline_local_functions)"
            )
        if len(self.proto.node) > MAX_NODES:
            raise InputError(f"has {len(self.proto.node)} nodes; at most {MAX_NODES} are read")
        if self.proto.sparse_initializer:
            raise InputError("holds sparse constants; export dense ones")
        for index, item in enumerate(self.proto.node):
            domain, where = _domain(item.domain), f"node {_shown(item, index)}"
            if domain not in OPERATORS:
                known = ", ".join(repr(name) for name in OPERATORS)
                raise InputError(
                    f"{where}: domain {printable(domain)!r} is not supported; supported: {known}"
                )
            if item.op_type not in OPERATORS[domain]:
                raise InputError(
                    f"{where}: operator {printable(item.op_type)} is not supported; replace it "
                    "or cut the model before it (docs/importers.md lists what is read)"
                )
            self._check_opset(domain, where)

    def _check_opset(self, domain: str, where: str) -> None:
        low, high = OPSETS[domain]
        version = self.opsets.get(domain)
        if version is None:
            raise InputError(
                f"{where}: the file imports no opset of domain {domain!r}; export it again"
            )
        if not low <= version <= high:
            raise InputError(
                f"{where}: opset {version} of domain {domain!r} is not supported; "
                f"export with opset {low}..{high}"
            )

    def _input(self, item: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
        where = f"input {printable(item.name)}"
        kind = item.type.tensor_type
        if not item.type.HasField("tensor_type") or kind.elem_type not in _DTYPES:
            raise InputError(f"{where}: must be a float, uint8 or int8 tensor")
        axes = kind.shape.dim
        if not kind.HasField("shape") or len(axes) not in (2, 4):
            raise InputError(
                f"{where}: must have 2 axes (batch, features) or 4 (batch, channels, rows, "
                "columns); export with a fixed shape"
            )
        sizes = [int(axis.dim_value) if axis.HasField("dim_value") else 0 for axis in axes]
        for position, size in enumerate(sizes):
            if size < 0 or (size == 0 and position > 0):
                name = axes[position].dim_param or "?"
                raise InputError(
                    f"{where}: axis {position} ({printable(name)}) has no size; export with a "
                    "fixed size (only the batch axis may be open)"
                )
        if math.prod(sizes[1:]) > MAX_ELEMENTS:
            raise InputError(f"{where}: {sizes} are more than {MAX_ELEMENTS} elements")
        return np.dtype(_DTYPES[kind.elem_type]), (sizes[0] or 1, *sizes[1:])

    def _node(self, item: Any, index: int) -> OnnxNode:
        where = f"node {_shown(item, index)}"
        if not any(item.output):
            raise InputError(f"{where}: has no output; export the model again")
        attributes: dict[str, Any] = {}
        for attribute in item.attribute:
            if attribute.name in attributes:
                raise InputError(f"{where}: attribute {printable(attribute.name)} stands twice")
            attributes[attribute.name] = self._attribute(attribute, where)
        inputs, outputs = list(item.input), list(item.output)
        while inputs and not inputs[-1]:
            inputs.pop()
        name = item.name or next(filter(None, outputs))
        domain = _domain(item.domain)
        return OnnxNode(name, item.op_type, domain, tuple(inputs), tuple(outputs), attributes)

    def _attribute(self, item: Any, where: str) -> Any:
        what = f"{where}: attribute {printable(item.name)}"
        if item.ref_attr_name or item.type not in _FIELDS:
            raise InputError(f"{what} is a sub-graph or of an unknown kind; only data is read")
        value = getattr(item, _FIELDS[item.type])
        if item.type == 4:
            return self.tensors.read(value, f"{item.name} of {where}")
        if item.type in (3, 8):
            texts = [raw.decode(errors="replace") for raw in ([value] if item.type == 3 else value)]
            return texts[0] if item.type == 3 else tuple(texts)
        return tuple(value) if item.type in (6, 7) else value


def _domain(name: str) -> str:
    return STANDARD if name == "ai.onnx" else name


def _shown(item: Any, index: int) -> str:
    name = item.name or next(filter(None, item.output), f"number {index}")
    return f"{printable(name)} ({printable(item.op_type)})"


def _constant(node: OnnxNode) -> Array:
    """The array of a Constant node."""
    if len(node.attributes) != 1:
        raise InputError(f"node {printable(node.name)} (Constant): needs exactly one attribute")
    ((key, value),) = node.attributes.items()
    kinds: dict[str, Any] = {"value_float": np.float32, "value_floats": np.float32}
    kinds |= {"value_int": np.int64, "value_ints": np.int64}
    if key == "value" and isinstance(value, np.ndarray):
        return value
    if key not in kinds or isinstance(value, str | np.ndarray):
        raise InputError(f"node {printable(node.name)} (Constant): {printable(key)} is not read")
    return np.array(value, dtype=kinds[key])


def _check_order(nodes: list[OnnxNode], known: set[str], output: str) -> None:
    """Every input is made before it is used, every tensor once."""
    makers = {name: node for node in nodes for name in node.outputs if name}
    done = set(known)
    for node in nodes:
        where = f"node {printable(node.name)} ({printable(node.op)})"
        for name in filter(None, node.inputs):
            if name not in done and name not in makers:
                raise InputError(
                    f"{where}: unknown input {printable(name)}; nothing in the file makes it"
                )
            if name not in done:
                raise InputError(
                    f"{where}: input {printable(name)} is made by a later node or by a cycle; "
                    "sort the nodes topologically, and export without loops"
                )
        for name in filter(None, node.outputs):
            if name in done:
                raise InputError(f"{where}: its output {printable(name)} is made twice")
            done.add(name)
    if output not in makers:
        raise InputError(
            f"output {printable(output)} is made by no node; the file is truncated or empty"
        )
