"""FPGA families and devices as data."""

from .devices import DEFAULT, TARGETS, Target, find
from .families import Family

__all__ = ["DEFAULT", "TARGETS", "Family", "Target", "find"]
