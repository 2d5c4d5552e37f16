"""Faults of tensors: concrete lists, laws that draw them, and layers that suffer them."""

from .bias import BitBias, Mibb, PermanentPe
from .laws import BitErrors, Law, draw
from .records import LAST, Op, Tensor, TensorFault, TensorFaults
from .stuck import StuckBits, StuckCells

__all__ = [
    "LAST",
    "BitBias",
    "BitErrors",
    "Law",
    "Mibb",
    "Op",
    "PermanentPe",
    "StuckBits",
    "StuckCells",
    "Tensor",
    "TensorFault",
    "TensorFaults",
    "draw",
]
