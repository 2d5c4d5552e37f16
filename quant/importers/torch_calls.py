"""What the handlers of an import work on: the float nodes found so far, and one operator's call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from ..errors import InputError
from ..float_graph import FloatArray, FloatNode
from ..names import printable

__all__ = ["Builder", "Call", "pair"]


def pair(values: Any) -> tuple[int, int]:
    """Rows and columns of an argument that may be one number for both."""
    values = list(values)
    return values[0], values[-1]


@dataclass
class Builder:
    """Nodes and shapes found so far; `batch` is the size (or symbol) of the batch axis."""

    batch: Any = None
    nodes: list[FloatNode] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def emit(self, node: FloatNode) -> str:
        """Append a node; returns its name."""
        self.nodes.append(node)
        self.shapes[node.name] = node.shape
        return node.name


@dataclass(frozen=True)
class Call:
    """One operator: the result's name, where it stands, its shape without batch, arguments."""

    name: str
    path: str
    shape: tuple[int, ...]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def get(self, index: int, default: Any = None) -> Any:
        """Positional argument `index`, or its default."""
        return self.args[index] if len(self.args) > index else default

    def fail(self, what: str) -> NoReturn:
        """Raise InputError naming the layer."""
        raise InputError(f"layer {printable(self.path)}: {what}")

    def common(self, *inputs: str) -> dict[str, Any]:
        """The fields that every node has."""
        return {"name": self.name, "inputs": inputs, "shape": self.shape, "path": self.path}

    def array(self, value: Any, what: str) -> FloatArray:
        """A weight as float64; InputError unless it is a weight and finite."""
        if isinstance(value, str):
            self.fail(f"{what} is computed from the input; it must be a constant")
        array = np.asarray(value.detach().cpu().double().numpy(), dtype=np.float64)
        if not np.isfinite(array).all():
            self.fail(f"{what} holds NaN or infinity; train or load the weights again")
        return array
