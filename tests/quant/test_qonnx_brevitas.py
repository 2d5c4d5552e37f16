"""Networks of Brevitas, exported by it: our integers against its own execution."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tercet.quant import ir
from tercet.quant.importers.onnx_model import OnnxModel, load_onnx
from tercet.quant.quantize import quantize_input
from tercet.quant.reference import Reference

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("brevitas", exc_type=ImportError)
    for needed in ("onnx", "onnxoptimizer", "onnxscript"):
        pytest.importorskip(needed)
    from brevitas import nn as qnn
    from brevitas import quant
    from brevitas.export import export_qonnx

SHAPE = (3, 8, 8)
PACKED = {"return_quant_tensor": True}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Brevitas and the exporter warn and log; that is not ours to test."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(before)


def compared(model: Any, folder: Path, capfd: Any, **options: Any) -> tuple[OnnxModel, Any, Any]:
    """The import of a settled, exported model; our outputs and Brevitas's, in steps."""
    torch.manual_seed(1)
    model.train()
    for _ in range(4):
        model(torch.randn(16, *SHAPE))
    model.eval()
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(part.weight, -1.5, 1.5)
            torch.nn.init.normal_(part.bias, std=0.3)
    x = torch.randn(50, *SHAPE)
    export_qonnx(model, args=x[:1], export_path=str(folder / "model.onnx"), **options)
    capfd.readouterr()
    with torch.no_grad():
        result = model(x)
    found = load_onnx(folder / "model.onnx")
    reference = Reference(found.graph)
    ours = reference.run(quantize_input(found.graph, x.numpy()))
    real = getattr(result, "value", result).numpy().astype(np.float64)
    scale = reference.types[found.graph.output].scale
    return found, ours, np.rint(real / scale) if scale else real


@pytest.mark.parametrize("options", [{}, {"dynamo": False, "opset_version": 13}])
def test_thresholds_of_per_channel_weights_are_exact(
    options: dict[str, Any], tmp_path: Path, capfd: Any
) -> None:
    model = torch.nn.Sequential(
        qnn.QuantIdentity(bit_width=8),
        qnn.QuantConv2d(
            3, 6, 3, weight_quant=quant.Int8WeightPerChannelFloat, weight_bit_width=4, bias=True
        ),
        torch.nn.BatchNorm2d(6),
        qnn.QuantReLU(bit_width=4),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        qnn.QuantLinear(
            54, 5, bias=False, weight_bit_width=2, output_quant=quant.Int8ActPerTensorFloat
        ),
    )

    found, ours, real = compared(model, tmp_path, capfd, **options)

    assert found.kind == "QONNX"
    assert [item.form for item in found.exactness] == ["thresholds", "integer"]
    np.testing.assert_array_equal(ours, real)


def test_bipolar_and_ternary_layers_are_exact(tmp_path: Path, capfd: Any) -> None:
    model = torch.nn.Sequential(
        qnn.QuantIdentity(act_quant=quant.SignedTernaryActPerTensorConst),
        qnn.QuantConv2d(
            3, 8, 3, padding=1, weight_quant=quant.SignedBinaryWeightPerTensorConst, bias=False
        ),
        torch.nn.BatchNorm2d(8),
        qnn.QuantIdentity(act_quant=quant.SignedBinaryActPerTensorConst),
        qnn.QuantConv2d(8, 4, 3, weight_quant=quant.SignedTernaryWeightPerTensorConst, bias=False),
        torch.nn.BatchNorm2d(4),
        qnn.QuantIdentity(bit_width=3),
    )

    found, ours, real = compared(model, tmp_path, capfd)

    first = next(node for node in found.graph if isinstance(node, ir.Conv2d))
    assert first.weight_bipolar
    np.testing.assert_array_equal(ours, real.transpose(0, 2, 3, 1))


def test_depthwise_and_truncated_pool(tmp_path: Path, capfd: Any) -> None:
    model = torch.nn.Sequential(
        qnn.QuantIdentity(bit_width=8, **PACKED),
        qnn.QuantConv2d(3, 6, 1, bias=True, bias_quant=quant.Int32Bias, **PACKED),
        qnn.QuantReLU(bit_width=4, **PACKED),
        qnn.QuantConv2d(6, 6, 3, groups=6, weight_bit_width=2, bias=False),
        qnn.QuantReLU(bit_width=5, **PACKED),
        qnn.TruncAvgPool2d(2),
    )

    found, ours, real = compared(model, tmp_path, capfd)

    assert found.graph.nodes[1].groups == 6
    np.testing.assert_array_equal(ours, real.transpose(0, 2, 3, 1))


class _Residual(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter = qnn.QuantIdentity(bit_width=8, **PACKED)
        self.conv = qnn.QuantConv2d(3, 3, 3, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(3)
        self.act = qnn.QuantIdentity(bit_width=8, **PACKED)
        self.add = qnn.QuantEltwiseAdd(**PACKED)
        self.relu = qnn.QuantReLU(bit_width=8, **PACKED)

    def forward(self, x: Any) -> Any:
        x = self.enter(x)
        return self.relu(self.add(x, self.act(self.norm(self.conv(x)))))


def test_residual_layers_differ_rarely(tmp_path: Path, capfd: Any) -> None:
    found, ours, real = compared(_Residual(), tmp_path, capfd)

    apart = np.abs(ours - real.transpose(0, 2, 3, 1))
    assert apart.max() <= 2  # one step of the convolution is more than one of the sum's operand
    assert (apart > 0).mean() < 0.01
    assert any(isinstance(node, ir.Add) for node in found.graph)
