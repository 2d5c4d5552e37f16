"""One random bit of one kind of word: what a single upset is in the integer graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from ..errors import InputError
from ..ir import Conv2d, Dense, Graph, IntArray
from ..names import printable
from .laws import BitErrors, Target, targets
from .layer import product_type
from .records import LAST, Tensor, TensorFaults

__all__ = ["single_bits"]


def single_bits(
    graph: Graph,
    frame: IntArray,
    tensor: Tensor,
    *,
    seed: int,
    layers: Iterable[str] | None = None,
    acc_bits: Mapping[str, int] | None = None,
) -> TensorFaults:
    """One flip an experiment, uniform over the bits of a kind of word in all `layers` (default:
    all that have such words): stored words, or for products, accumulators and operands that are
    read one word for each multiplication. Experiment i is on input `frame[i]`.

    Raises InputError for an unknown layer and where no layer has such a word.
    """
    known = targets(graph, acc_bits)
    names = [target.name for target in known]
    for name in layers or ():
        if name not in names:
            raise InputError(f"tensor faults: no layer {printable(name)!r} in the graph")
    places = [t for t in known if _has(t, tensor) and (layers is None or t.name in layers)]
    if not places:
        raise InputError(f"tensor faults: no layer chosen has a {tensor.name.lower()} word")
    sizes = [_words(t, tensor, known, names) for t in places]
    ends = np.cumsum([words * steps * bits for words, steps, bits in sizes])
    rng = np.random.default_rng([seed, int(tensor)])
    drawn = rng.integers(0, ends[-1], len(frame))
    which = np.searchsorted(ends, drawn, side="right")
    _, steps, bits = np.array(sizes).T[:, which]
    drawn -= np.concatenate(([0], ends[:-1]))[which]
    rest, bit = np.divmod(drawn, bits)
    index, step = np.divmod(rest, steps)
    timed = tensor in (Tensor.WEIGHT_READ, Tensor.INPUT_READ, Tensor.PRODUCT, Tensor.ACCUMULATOR)
    return TensorFaults.build(
        [t.name for t in places],
        frame,
        np.arange(len(frame)),
        which,
        tensor=int(tensor),
        index=index,
        step=step if timed else LAST,
        value=np.int64(1) << bit,
    )


def _has(target: Target, tensor: Tensor) -> bool:
    if tensor == Tensor.ACTIVATION:
        return BitErrors(0.0, tensor).strikes(target)
    if tensor == Tensor.PREACTIVATION:
        raise InputError("tensor faults: the word before the activation is no register; use a law")
    return isinstance(target.node, Conv2d | Dense)


def _words(
    target: Target, tensor: Tensor, known: list[Target], names: list[str]
) -> tuple[int, int, int]:
    """Words, multiplications of each, and bits of each."""
    if tensor in (Tensor.WEIGHT, Tensor.BIAS, Tensor.ACTIVATION):
        words, bits = BitErrors(0.0, tensor).size(target)
        return words, 1, bits
    node = target.linear
    source = known[names.index(node.inputs[0])]
    if tensor == Tensor.INPUT:
        return source.elements, 1, source.kind.bits
    bits = {
        Tensor.WEIGHT_READ: node.weight_bits,
        Tensor.INPUT_READ: source.kind.bits,
        Tensor.PRODUCT: product_type(node, source.kind).bits,
        Tensor.ACCUMULATOR: target.acc_bits,
    }[tensor]
    return target.elements, target.macs, bits
