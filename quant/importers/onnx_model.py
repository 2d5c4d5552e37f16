"""Which kind of model a FILE.onnx is, and the importer for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ..errors import InputError
from ..ir import Graph
from ..names import printable
from ..quantize import QuantConfig, quantize
from .exactness import Exactness
from .onnx_file import OnnxGraph, OnnxNode, read_onnx
from .onnx_float import import_float
from .onnx_operators import CONTRIB, QONNX, STANDARD
from .onnx_parameters import PARAMETERS
from .onnx_pools import POOLS
from .onnx_qlinear import CONTRIB_QLINEAR, QLINEAR
from .onnx_quantised import Imported, QuantisedWalker, Trace
from .onnx_real import REAL
from .qonnx import convert

__all__ = ["KINDS", "OnnxModel", "describe", "import_quantised", "kind_of", "load_onnx"]

KINDS = ("float", "QDQ", "QOperator", "QONNX")


@dataclass(frozen=True)
class OnnxModel:
    """An imported network: its integer graph and the kind of file.

    `notes` are of one line each. `exactness` has one statement a layer, `traces` the ONNX tensors
    that layers have to equal; both are empty for a float model, which the integers define anew.
    """

    graph: Graph
    kind: str
    notes: tuple[str, ...] = ()
    exactness: tuple[Exactness, ...] = ()
    traces: Mapping[str, Trace] = field(default_factory=dict)


class _Quantised(QuantisedWalker):
    """The walk with every layer of both quantised forms."""

    handlers: ClassVar[dict[tuple[str, str], Callable[..., Any]]] = {
        **{(STANDARD, op): rule for op, rule in {**REAL, **POOLS, **PARAMETERS, **QLINEAR}.items()},
        **{(CONTRIB, op): rule for op, rule in CONTRIB_QLINEAR.items()},
        **{(CONTRIB, op): PARAMETERS[op] for op in ("DequantizeLinear", "QuantizeLinear")},
    }


def kind_of(graph: OnnxGraph) -> str:
    """One of KINDS."""
    if any(node.domain in QONNX for node in graph.nodes):
        return "QONNX"
    if any(_qlinear(node) for node in graph.nodes):
        return "QOperator"
    names = {node.op for node in graph.nodes}
    return "QDQ" if names & {"QuantizeLinear", "DequantizeLinear"} else "float"


def _qlinear(node: OnnxNode) -> bool:
    return node.op.startswith("QLinear") or node.op == "QGemm"


def import_quantised(graph: OnnxGraph) -> Imported:
    """The integer graph of a QDQ or QOperator model, with notes and statements.

    Raises InputError naming the node and the fix.
    """
    walker = _Quantised(graph)
    walker.walk()
    return walker.result()


def load_onnx(
    path: Path, calibration: Callable[[], Any] | None = None, config: QuantConfig | None = None
) -> OnnxModel:
    """Read FILE.onnx of any kind.

    `calibration` gives the inputs [n, ...] that a float model is quantised with by `config`; it is
    called for such a model only. Raises InputError naming file, node and fix.
    """
    shown, onnx = printable(path.name), read_onnx(path)
    kind = kind_of(onnx)
    if kind != "float" and config is not None:
        raise InputError(
            f"{shown}: is quantised already ({kind}); quantisation options are for float models"
        )
    try:
        if kind != "float":
            return _model((convert if kind == "QONNX" else import_quantised)(onnx), kind)
        graph, notes = import_float(onnx)
    except InputError as error:
        raise InputError(f"{shown}: {error}") from None
    if calibration is None:
        raise InputError(
            f"{shown}: a float model needs --calibration X.npz with an array 'x' of typical inputs"
        )
    return OnnxModel(quantize(graph, calibration(), config or QuantConfig()), kind, notes)


def describe(path: Path) -> OnnxModel | None:
    """A quantised FILE.onnx as `load_onnx`; None for a float one. Raises InputError."""
    return None if kind_of(read_onnx(path)) == "float" else load_onnx(path)


def _model(made: Imported, kind: str) -> OnnxModel:
    return OnnxModel(made.graph, kind, made.notes, made.exactness, made.traces)
