"""Faults of tensors: concrete lists, laws that draw them, and layers that suffer them."""

from .records import LAST, Op, Tensor, TensorFault, TensorFaults

__all__ = ["LAST", "Op", "Tensor", "TensorFault", "TensorFaults"]
