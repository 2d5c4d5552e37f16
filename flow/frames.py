"""Frames from .npz files: integers as they are, real values through the graph's input type."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..quant.errors import InputError
from ..quant.ir import Graph, IntArray
from ..quant.names import printable
from ..quant.npz import load_array
from ..quant.quantize import quantize_input
from ..quant.reference import check_input

__all__ = ["read_frames"]


def read_frames(graph: Graph, path: Path) -> tuple[IntArray, IntArray | None]:
    """Array `x` of the file as integers [n, *input_shape], and `labels` [n] if it has them.

    Integers are channels-last values of the input type. Real numbers are quantised by the input's
    scale; their layout is torch's, channels first. Raises InputError naming the file.
    """
    where = printable(path.name)
    array = load_array(path)
    if not len(array):
        raise InputError(f"{where}: array 'x' is empty; give at least one input")
    try:
        x = quantize_input(graph, array) if array.dtype.kind == "f" else check_input(graph, array)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    with np.load(path, allow_pickle=False) as archive:
        has_labels = "labels" in archive.files
    labels = None
    if has_labels:
        labels = np.asarray(load_array(path, "labels"), dtype=np.int64)
        if labels.shape != (len(x),):
            raise InputError(f"{where}: labels has shape {labels.shape}, not ({len(x)},)")
    return x, labels
