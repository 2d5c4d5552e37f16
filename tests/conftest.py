"""Fixtures for every package: random graphs and networks, the plain-Python executor."""

import importlib.util
import sys
from pathlib import Path

import pytest


def _module(folder, stem):
    """A helper module of tests/`folder`; tests are no package, so it is loaded by its path."""
    name = f"tercet_test_{folder}_{stem}"
    if name not in sys.modules:
        path = Path(__file__).parent / folder / f"{stem}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def helper():
    """helper(folder, stem) -> the module tests/`folder`/`stem`.py."""
    return _module


@pytest.fixture(scope="session")
def random_graph():
    """random_graph(rng, ops=OPERATORS, max_hw=6, *, max_channels=5, max_steps=4) -> ir.Graph."""
    return _module("quant", "graphs").random_graph


@pytest.fixture(scope="session")
def random_input():
    """random_input(rng, graph, count) -> int64 [count, *input_shape]."""
    return _module("quant", "graphs").random_input


@pytest.fixture(scope="session")
def random_network():
    """random_network(rng) -> (graph, folding, protection) of a chain that has a circuit."""
    return _module("hw", "networks").random_network


@pytest.fixture(scope="session")
def random_dag():
    """random_dag(rng) -> (graph, folding, protection) of a network with forks and joins."""
    return _module("hw", "networks").random_dag


@pytest.fixture(scope="session")
def broad_network():
    """broad_network(rng) -> (graph, folding, protection), several pixels a cycle."""
    return _module("hw", "networks").broad_network


@pytest.fixture(scope="session")
def naive():
    """The module tests/quant/naive.py: evaluate(graph, image), products(node, x, zero_point)."""
    return _module("quant", "naive")
