"""Run a network on inputs with any engine: NumPy reference, torch, or the Verilog on Verilator."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..quant import execute, reference, serialize
from ..quant.errors import InputError
from ..quant.ir import ArgMax, Graph, IntArray
from ..quant.names import printable
from ..sim.clocked import run_frames
from .frames import read_frames
from .sources import load_graph

__all__ = ["run"]


def run(source: Path, inputs: Path, output: Path, engine: str = "reference") -> dict[str, Any]:
    """Write `logits` [n, ...] (the graph's output) and `argmax` [n] for `inputs` to `output`.

    `source` is a build directory, graph.json or a quantised FILE.onnx; the engine `verilator`
    needs a directory, whose Verilog it compiles and runs. The JSON tells whether the engine equals
    the reference. Raises InputError naming the file or option.
    """
    source, output = Path(source), Path(output)
    is_build = source.is_dir()
    graph = serialize.load(source / "graph.json") if is_build else load_graph(str(source))
    if engine == "verilator" and not is_build:
        raise InputError(
            f"{printable(str(source))}: --engine verilator runs a build directory's Verilog; "
            "build one with `tercet build`"
        )
    x, _ = read_frames(graph, Path(inputs))
    expected = reference.run(graph, x)
    logits = expected if engine == "reference" else _engine(engine, graph, source, x)
    _save(output, logits, graph)
    return {
        "images": len(x),
        "engine": engine,
        "equal_to_reference": bool(np.array_equal(logits, expected)),
    }


def _engine(engine: str, graph: Graph, source: Path, x: IntArray) -> IntArray:
    if engine == "torch":
        return execute.run(graph, x)
    if engine == "verilator":
        return run_frames(source, x)
    raise InputError(f"engine {printable(engine)!r} is none of reference, torch, verilator")


def _save(output: Path, logits: IntArray, graph: Graph) -> None:
    """Write the .npz beside its place, then rename it."""
    flat = logits.reshape(len(logits), -1)
    is_index = isinstance(graph.node(graph.output), ArgMax)
    top1 = flat[:, 0] if is_index else flat.argmax(axis=1)
    if not output.absolute().parent.is_dir():
        raise InputError(f"{printable(str(output))}: its folder does not exist")
    handle, name = tempfile.mkstemp(suffix=".npz", dir=output.absolute().parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, logits=logits, argmax=top1)
        Path(name).replace(output)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
