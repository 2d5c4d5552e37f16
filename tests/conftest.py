"""Fixtures for every package: random graphs (tests/quant/graphs.py)."""

import importlib.util
import sys
from pathlib import Path

import pytest


def _graphs():
    """The module tests/quant/graphs.py; tests are no package, so it is loaded by its path."""
    name = "tercet_test_graphs"
    if name not in sys.modules:
        path = Path(__file__).parent / "quant" / "graphs.py"
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def random_graph():
    """random_graph(rng, ops=OPERATORS, max_hw=6, *, max_channels=5, max_steps=4) -> ir.Graph."""
    return _graphs().random_graph


@pytest.fixture(scope="session")
def random_input():
    """random_input(rng, graph, count) -> int64 [count, *input_shape]."""
    return _graphs().random_input
