"""What the streams of a design must show: reference tensors packed into beats."""

import zipfile
from pathlib import Path

import numpy as np

from ..quant import reference
from ..quant.errors import InputError
from ..quant.ir import Graph, IntArray
from ..quant.names import printable
from .manifest import Manifest, Stream, Words

__all__ = ["load_frames", "pack_streams", "random_frames"]

MAX_BYTES = 4 << 30


def load_frames(path: Path, graph: Graph) -> IntArray:
    """`x` of an .npz file as int64 [n, *input_shape]; InputError naming the file if it is not."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(item.file_size for item in archive.infolist()) > MAX_BYTES:
                raise InputError(f"{path}: unpacks to more than {MAX_BYTES >> 30} GiB")
        with np.load(path, allow_pickle=False) as arrays:
            x = arrays["x"]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or 'not readable'}") from None
    except KeyError:
        raise InputError(f"{path}: holds no array `x` of input frames") from None
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise InputError(f"{path}: not an .npz file of plain arrays") from None
    try:
        return reference.check_input(graph, x)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def random_frames(graph: Graph, count: int, seed: int) -> IntArray:
    """`count` frames (none if it is negative) of uniform values of the input's type."""
    kind = graph.input_type
    values = np.array([-1, 1]) if kind.bipolar else np.arange(kind.lo, kind.hi + 1)
    shape = (max(0, count), *graph.input_shape)
    return np.asarray(np.random.default_rng(seed).choice(values, shape), np.int64)


def pack_streams(found: Manifest, graph: Graph, x: IntArray) -> list[Words]:
    """Words uint8 [n, beats, word_bytes] of the input, the output and each tap, for frames x.

    Raises InputError if a tap is no layer of the graph or does not fit its tensor.
    """
    tensors = reference.execute(graph, x)
    layouts = [(graph.input_name, found.input), (graph.output, found.output)]
    layouts += [(tap.layer, tap.stream) for tap in found.taps]
    for name, _ in layouts:
        if name not in tensors:
            raise InputError(f"manifest.json: tap {name} is no layer of graph.json")
    return [_pack(name, layout, tensors[name]) for name, layout in layouts]


def _pack(name: str, layout: Stream, frames: IntArray) -> Words:
    if frames[0].size != layout.elements:
        raise InputError(
            f"manifest.json: layer {name} has {layout.elements} elements, "
            f"graph.json {frames[0].size}; build the directory again"
        )
    try:
        return layout.pack(frames.reshape(-1, *layout.shape))
    except ValueError as error:
        raise InputError(f"manifest.json: layer {name}: {printable(str(error))}") from None
