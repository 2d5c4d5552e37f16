"""Folding: how many lanes and multipliers each layer gets, and where its weights lie."""

from .balance import AUTO_MULTIPLIERS, balance, meeting
from .goal import Goal
from .solve import Solver, fold_for_interval, fold_to_fit
from .toml_file import folding_json, load_folding

__all__ = [
    "AUTO_MULTIPLIERS",
    "Goal",
    "Solver",
    "balance",
    "fold_for_interval",
    "fold_to_fit",
    "folding_json",
    "load_folding",
    "meeting",
]
