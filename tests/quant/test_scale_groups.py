"""Concats whose operands share a scale, and those whose do not."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tercet.quant import execute, ir, reference
from tercet.quant.importers.torch_module import import_torch
from tercet.quant.quantize import QuantConfig, quantize, quantize_input
from tercet.quant.train import predict


class Branches(nn.Module):
    """Branches of unequal range, joined by `join`."""

    def __init__(self, join):
        super().__init__()
        torch.manual_seed(3)
        self.a = nn.Conv2d(2, 4, 3, padding=1)
        self.b = nn.Conv2d(2, 3, 1)
        self.fc = nn.Conv2d(9, 5, 1)
        with torch.no_grad():
            self.b.weight *= 5.0
        self.join = join

    def forward(self, x):
        x = self.join(self, F.relu(self.a(x)), F.relu(self.b(x)), x)
        return self.fc(F.pad(x, (0, 0, 0, 0, 0, 9 - x.shape[1])))


def quantized(join, **options):
    module = Branches(join)
    x = np.random.default_rng(0).normal(size=(16, 2, 6, 6)).astype(np.float32)
    graph = quantize(import_torch(module, (2, 6, 6)), x, QuantConfig(**options))
    integers = quantize_input(graph, x)
    got, want = reference.run(graph, integers), predict(module, x).transpose(0, 2, 3, 1)

    assert (got == execute.run(graph, integers)).all()
    assert np.corrcoef(got.ravel(), want.ravel())[0, 1] > 0.995
    return [node.requantize for node in graph if isinstance(node, ir.Concat)]


@pytest.mark.parametrize("ranges", ["minmax", "percentile", "mse"])
@pytest.mark.parametrize(
    "join",
    [
        lambda m, a, b, x: torch.cat([a, b], 1),
        lambda m, a, b, x: torch.cat([F.max_pool2d(a, 3, 1, 1), F.avg_pool2d(b, 3, 1, 1)], 1),
        lambda m, a, b, x: torch.cat([torch.cat([a], 1), b], 1),
        lambda m, a, b, x: F.relu(torch.cat([m.a(x), m.b(x)], 1)),
    ],
    ids=["layers", "pools", "chain", "relu behind"],
)
def test_operands_share_the_scale(join, ranges):
    for tables in quantized(join, ranges=ranges):
        assert all(table is None for table in tables)


def test_the_input_and_operands_with_another_sign_keep_their_scales():
    (tables,) = quantized(lambda m, a, b, x: torch.cat([x, a, m.b(x)], 1))

    assert [table is None for table in tables] == [False, False, True]


def test_operands_with_other_bits_keep_their_scales():
    (tables,) = quantized(lambda m, a, b, x: torch.cat([a, b], 1), layers={"b": {"act_bits": 6}})

    assert [table is None for table in tables] == [True, False]


def test_powers_of_two_stay_correct():
    quantized(lambda m, a, b, x: torch.cat([a, b], 1), scheme="pow2")


def test_zero_points_are_shared_too():
    (tables,) = quantized(lambda m, a, b, x: torch.cat([m.a(x), m.b(x)], 1), asymmetric=True)

    assert tables == (None, None)
