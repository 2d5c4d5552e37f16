"""Chains and residual networks: their layers, shapes and seeds."""

import numpy as np
import pytest
import torch

from tercet.flow.search.candidate import NetworkSpec, StageSpec
from tercet.flow.search.networks import imported, module
from tercet.quant.float_graph import execute
from tercet.quant.quantize import QuantConfig, quantize
from tercet.quant.train import predict


def spec(family="chain", stages=((2, 4, 3), (1, 6, 1)), head="flatten", shape=(1, 8, 8)):
    found = tuple(StageSpec(*stage) for stage in stages)
    return NetworkSpec(family, found, head, 8, 8, "scale", shape, 10)


def layers(of):
    """Name, operator and operands of every node of the quantised network."""
    images = np.random.default_rng(0).random((8, *of.input_shape), dtype=np.float32)
    graph = quantize(imported(module(of), of), images, QuantConfig())
    return [(node.name, type(node).__name__, *node.inputs) for node in graph]


def test_layers_of_a_chain():
    assert layers(spec()) == [
        ("s1b1_conv", "Conv2d", "n_input"),
        ("s1b2_conv", "Conv2d", "s1b1_conv"),
        ("s1_pool", "MaxPool", "s1b2_conv"),
        ("s2b1_conv", "Conv2d", "s1_pool"),
        ("s2_pool", "MaxPool", "s2b1_conv"),
        ("flatten", "Flatten", "s2_pool"),
        ("fc", "Dense", "flatten"),
    ]


def test_layers_of_a_residual_network():
    assert layers(spec("residual", ((2, 4, 3), (1, 4, 3)), "mean")) == [
        ("s1b1_conv1", "Conv2d", "n_input"),
        ("s1b1_conv2", "Conv2d", "s1b1_conv1"),
        ("s1b1_skip", "Conv2d", "n_input"),
        ("s1b1_add", "Add", "s1b1_conv2", "s1b1_skip"),
        ("s1b2_conv1", "Conv2d", "s1b1_add"),
        ("s1b2_conv2", "Conv2d", "s1b2_conv1"),
        ("s1b2_add", "Add", "s1b2_conv2", "s1b1_add"),
        ("s1_pool", "MaxPool", "s1b2_add"),
        ("s2b1_conv1", "Conv2d", "s1_pool"),
        ("s2b1_conv2", "Conv2d", "s2b1_conv1"),
        ("s2b1_add", "Add", "s2b1_conv2", "s1_pool"),
        ("s2_pool", "MaxPool", "s2b1_add"),
        ("mean", "GlobalAvgPool", "s2_pool"),
        ("fc", "Dense", "mean"),
    ]


@pytest.mark.parametrize("family", ["chain", "residual"])
@pytest.mark.parametrize("head", ["flatten", "mean"])
def test_the_graph_computes_what_the_module_does(family, head):
    of = spec(family, ((1, 4, 5), (2, 5, 3)), head, shape=(3, 9, 14))
    network = module(of, seed=1)
    x = np.random.default_rng(1).random((6, 3, 9, 14), dtype=np.float32)
    network.train()(torch.as_tensor(x))  # statistics that batch norm has to fold
    graph = imported(network, of)
    found = execute(graph, x)[graph.output]

    assert found.shape == (6, 10)
    np.testing.assert_allclose(found, predict(network, x), rtol=1e-4, atol=1e-4)


def test_results_are_never_negative_in_front_of_a_pool():
    of = spec("residual", ((1, 4, 3),))
    x = np.random.default_rng(2).normal(size=(4, 1, 8, 8))
    values = execute(imported(module(of), of), x)

    assert values["s1b1_add"].min() == 0
    assert values["s1b1_conv2"].min() < 0


def test_weights_follow_from_the_seed():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again, other = (module(spec(), seed).fc.weight for seed in (1, 1, 2))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_graphs_are_named_for_their_network():
    of = spec("residual", ((1, 4, 1),))

    assert imported(module(of), of).name == f"residual_{of.digest[:8]}"
