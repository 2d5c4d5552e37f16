"""Score A, and the class-oriented form of any score (score C) that is known image by image."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ir import Conv2d, Dense, IntArray
from .propagate import Propagation

__all__ = ["activations", "class_oriented"]

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


def activations(run: Propagation) -> dict[str, FloatArray]:
    """Mean |activation| of each neuron in each image: [images, out_channels] by layer name.

    The mean over positions of |q - zero_point|, in units of the largest one of the layer's tensor:
    integers of different layers have no unit in common. The rank of neurons by mean absolute
    activation is what others report of Ruospo et al. (DDECS 2022).
    """
    found = {}
    for node in run.model.graph:
        if isinstance(node, Conv2d | Dense):
            golden = run.golden[node.name]
            size = np.abs(golden - run.model.types[node.name].zero_point)
            per_image = size.reshape(len(size), -1, size.shape[-1]).mean(axis=1)
            found[node.name] = per_image / max(1, int(size.max()))
    return found


def class_oriented(values: FloatArray, classes: IntArray) -> FloatArray:
    """The largest of the classes' mean scores: [images, neurons] and the class of each image.

    A neuron that serves one class only counts with what it is for that class (resilience of single
    classes: Ruospo et al., Applied Sciences 11(14), 2021).
    """
    means = [values[classes == label].mean(axis=0) for label in np.unique(classes)]
    largest: FloatArray = np.max(means, axis=0)
    return largest
