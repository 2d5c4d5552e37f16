"""Batch norms between layers: where they vanish, where they stay, always the same function."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tercet.quant import float_graph as fg
from tercet.quant.importers.torch_module import import_torch
from tercet.quant.train import predict

SHAPE = (3, 8, 8)


class Branches(nn.Module):
    """Two convolutions and what `join` makes of (module, a, b, x)."""

    def __init__(self, join, channels):
        super().__init__()
        torch.manual_seed(2)
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.b = nn.Conv2d(3, 4, 1)
        self.bn = nn.BatchNorm2d(channels)
        nn.init.normal_(self.bn.bias)
        nn.init.uniform_(self.bn.weight, 0.5, 2.0)
        self.bn.running_mean.normal_()
        self.bn.running_var.uniform_(0.5, 2.0)
        self.join = join

    def forward(self, x):
        return self.join(self, self.a(x), self.b(x), x)


def imported(module, shape=SHAPE):
    graph = import_torch(module, shape)
    x = np.random.default_rng(1).normal(size=(3, *shape)).astype(np.float32)

    got = fg.execute(graph, x)[graph.output]
    np.testing.assert_allclose(got, predict(module, x), rtol=1e-4, atol=1e-4)
    return [type(node) for node in graph]


@pytest.mark.parametrize(
    ("join", "channels", "kinds"),
    [
        (lambda m, a, b, x: m.bn(torch.cat([a, b], 1)), 8, [fg.Conv, fg.Conv, fg.Concat]),
        (lambda m, a, b, x: m.bn(a + b), 4, [fg.Conv, fg.Conv, fg.Sum]),
        (lambda m, a, b, x: m.bn(F.max_pool2d(a, 2)), 4, [fg.Conv, fg.MaxPool]),
        (lambda m, a, b, x: m.bn(F.avg_pool2d(a, 2)), 4, [fg.Conv, fg.AvgPool]),
        (
            lambda m, a, b, x: m.bn(torch.cat([F.max_pool2d(a + b, 2), m.a(x)[:, :, ::2, ::2]], 1)),
            8,
            [fg.Conv, fg.Conv, fg.Sum, fg.MaxPool, fg.Conv, fg.MaxPool, fg.Concat],
        ),
    ],
    ids=["concat", "sum", "max", "average", "nested"],
)
def test_batch_norm_passes_joins_and_pools(join, channels, kinds):
    assert imported(Branches(join, channels)) == kinds


@pytest.mark.parametrize(
    ("join", "channels", "kinds"),
    [
        (lambda m, a, b, x: m.bn(torch.cat([a, x], 1)), 7, [fg.Conv, fg.Concat, fg.Conv]),
        (lambda m, a, b, x: m.bn(torch.cat([a, a], 1)), 8, [fg.Conv, fg.Concat, fg.Conv]),
        (
            lambda m, a, b, x: m.bn(torch.cat([F.relu(a), b], 1)),
            8,
            [fg.Conv, fg.Conv, fg.Concat, fg.Conv],
        ),
        (lambda m, a, b, x: m.bn(a) + a, 4, [fg.Conv, fg.Conv, fg.Sum]),
        (lambda m, a, b, x: m.bn(F.avg_pool2d(a, 3, 2, 1)), 4, [fg.Conv, fg.AvgPool, fg.Conv]),
        (lambda m, a, b, x: m.bn(a + a), 4, [fg.Conv, fg.Sum, fg.Conv]),
    ],
    ids=["input", "twice", "relu", "shared", "padded average", "doubled"],
)
def test_batch_norm_stays_where_a_path_does_not_end_in_weights(join, channels, kinds):
    assert imported(Branches(join, channels)) == kinds


def test_batch_norm_with_a_negative_gain_does_not_pass_a_maximum():
    module = Branches(lambda m, a, b, x: m.bn(F.max_pool2d(a, 2)), 4)
    module.bn.weight.data[1] = -1.0

    assert imported(module) == [fg.Conv, fg.MaxPool, fg.Conv]


def test_batch_norm_in_front_of_a_relu_and_a_padded_convolution_is_a_step_of_its_own():
    module = nn.Sequential(nn.MaxPool2d(2), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 5, 3, 1, 1))
    module[1].running_mean.fill_(0.3)
    graph = import_torch(module, SHAPE)
    step = graph.nodes[1]

    assert imported(module) == [fg.MaxPool, fg.Conv, fg.Conv]
    assert (step.weight.shape, step.groups, step.lo) == ((3, 1, 1, 1), 3, 0.0)


def test_relu_of_a_concat_goes_to_its_operands():
    module = Branches(lambda m, a, b, x: F.relu(torch.cat([m.bn(a), b], 1)), 4)
    graph = import_torch(module, SHAPE)

    assert imported(module) == [fg.Conv, fg.Conv, fg.Concat]
    assert [node.lo for node in graph] == [0.0, 0.0, -np.inf]


def test_relu_of_a_concat_stays_where_an_operand_is_read_elsewhere():
    module = Branches(lambda m, a, b, x: torch.cat([F.relu(torch.cat([a, b], 1)), a], 1), 4)
    graph = import_torch(module, SHAPE)

    assert [node.lo for node in graph if isinstance(node, fg.Concat)] == [0.0, -np.inf]
