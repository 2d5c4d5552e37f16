"""Networks of Brevitas, trained briefly on digits, through QONNX to the integer graph.

    python benchmarks/qonnx.py [--epochs N] [--network NAME ...] [--out OUT]
                               [--rtl N]

Each network is trained with quantisation (a few seconds), exported by Brevitas to OUT/NAME.onnx and
imported. Printed per network: accuracy of Brevitas's own float execution and of the integer graph
on the 360 test images, share of equal outputs and largest difference in steps of the output, then
one line for each layer: its form and the share of accumulators that round otherwise; `--rtl N`
builds the Verilog of every file and runs N test images on it. Needs
brevitas, onnx, onnxoptimizer and onnxscript (dependency group brevitas of pyproject.toml).
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tercet.flow.builder import build
from tercet.quant import reference
from tercet.quant.datasets import Digits, digits
from tercet.quant.errors import InputError
from tercet.quant.importers.exactness import Exactness
from tercet.quant.importers.onnx_model import load_onnx
from tercet.quant.quantize import quantize_input
from tercet.sim.clocked import run_frames

NEEDED = ("brevitas", "onnx", "onnxoptimizer", "onnxscript", "sklearn")
BATCH = 32


def weights_4_bits(nn: Any, qnn: Any, quant: Any) -> Any:
    """4-bit weights a channel, 4-bit activations, batch norms: all thresholds."""
    fine = {"weight_quant": quant.Int8WeightPerChannelFloat, "weight_bit_width": 4, "bias": False}
    return nn.Sequential(
        qnn.QuantIdentity(bit_width=8),
        qnn.QuantConv2d(1, 16, 3, padding=1, **fine),
        nn.BatchNorm2d(16),
        qnn.QuantReLU(bit_width=4),
        nn.MaxPool2d(2),
        qnn.QuantConv2d(16, 32, 3, padding=1, **fine),
        nn.BatchNorm2d(32),
        qnn.QuantReLU(bit_width=4),
        nn.MaxPool2d(2),
        nn.Flatten(),
        qnn.QuantLinear(128, 10, bias=True, output_quant=quant.Int8ActPerTensorFloat),
    )


def weights_8_bits(nn: Any, qnn: Any, quant: Any) -> Any:
    """8-bit weights and activations, biases on the accumulator's grid: multipliers."""
    options = {"bias": True, "bias_quant": quant.Int32Bias}
    packed = {"return_quant_tensor": True}
    return nn.Sequential(
        qnn.QuantIdentity(act_quant=quant.Int8ActPerTensorFloat, **packed),
        qnn.QuantConv2d(1, 16, 3, padding=1, **options),
        qnn.QuantReLU(bit_width=8, **packed),
        qnn.QuantConv2d(16, 16, 3, stride=2, **options),
        qnn.QuantReLU(bit_width=8, **packed),
        nn.Flatten(),
        qnn.QuantLinear(144, 10, output_quant=quant.Int8ActPerTensorFloat, **options),
    )


def powers_of_two(nn: Any, qnn: Any, quant: Any) -> Any:
    """Fixed point: scales are powers of two, so ties are frequent; a 2-bit depthwise layer."""
    weight = {"weight_quant": quant.Int8WeightPerTensorFixedPoint, "bias": False}
    act = {"act_quant": quant.Uint8ActPerTensorFixedPoint, "return_quant_tensor": True}
    return nn.Sequential(
        qnn.QuantIdentity(act_quant=quant.Int8ActPerTensorFixedPoint, return_quant_tensor=True),
        qnn.QuantConv2d(1, 16, 3, padding=1, **weight),
        qnn.QuantReLU(bit_width=6, **act),
        qnn.QuantConv2d(16, 16, 3, groups=16, weight_bit_width=2, bias=False),
        qnn.QuantReLU(bit_width=4, return_quant_tensor=True),
        qnn.TruncAvgPool2d(2),
        nn.Flatten(),
        qnn.QuantLinear(144, 10, output_quant=quant.Int8ActPerTensorFixedPoint, **weight),
    )


def bipolar(nn: Any, qnn: Any, quant: Any) -> Any:
    """Weights and activations of -1 and +1 behind an 8-bit input; a ternary last layer."""
    weight = {"weight_quant": quant.SignedBinaryWeightPerTensorConst, "bias": False}
    act = {"act_quant": quant.SignedBinaryActPerTensorConst}
    return nn.Sequential(
        qnn.QuantIdentity(bit_width=8),
        qnn.QuantConv2d(1, 32, 3, **weight),
        nn.BatchNorm2d(32),
        qnn.QuantIdentity(**act),
        qnn.QuantConv2d(32, 32, 3, **weight),
        nn.BatchNorm2d(32),
        qnn.QuantIdentity(**act),
        nn.Flatten(),
        qnn.QuantLinear(
            512,
            10,
            bias=False,
            weight_quant=quant.SignedTernaryWeightPerTensorConst,
            output_quant=quant.Int8ActPerTensorFloat,
        ),
    )


def residual(nn: Any, qnn: Any, quant: Any) -> Any:
    """A residual block with a quantised sum, and a global average."""

    class Residual(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            packed = {"return_quant_tensor": True}
            self.enter = nn.Sequential(
                qnn.QuantIdentity(bit_width=8),
                qnn.QuantConv2d(1, 16, 3, padding=1, bias=False),
                nn.BatchNorm2d(16),
                qnn.QuantReLU(bit_width=8, **packed),
            )
            self.block = nn.Sequential(
                qnn.QuantConv2d(16, 16, 3, padding=1, bias=False),
                nn.BatchNorm2d(16),
                qnn.QuantReLU(bit_width=8, **packed),
                qnn.QuantConv2d(16, 16, 3, padding=1, bias=False),
                nn.BatchNorm2d(16),
                qnn.QuantIdentity(bit_width=8, **packed),
            )
            self.add = qnn.QuantEltwiseAdd(**packed)
            self.act = qnn.QuantReLU(bit_width=8, **packed)
            self.mean = nn.AvgPool2d(8)
            self.requantise = qnn.QuantIdentity(bit_width=8, **packed)
            self.last = qnn.QuantLinear(16, 10, output_quant=quant.Int8ActPerTensorFloat, bias=True)

        def forward(self, x: Any) -> Any:
            x = self.enter(x)
            x = self.act(self.add(x, self.block(x)))
            return self.last(self.requantise(self.mean(x)).flatten(1))

    return Residual()


NETWORKS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "weights_4_bits": weights_4_bits,
    "weights_8_bits": weights_8_bits,
    "powers_of_two": powers_of_two,
    "bipolar": bipolar,
    "residual": residual,
}


def train(model: Any, data: Digits, epochs: int) -> None:
    """Quantisation-aware training with Adam."""
    import torch

    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    x, y = torch.from_numpy(data.train_x), torch.from_numpy(data.train_y)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(BATCH):
            optimiser.zero_grad()
            result = model(x[rows])
            torch.nn.functional.cross_entropy(getattr(result, "value", result), y[rows]).backward()
            optimiser.step()
    model.eval()


def measure(name: str, folder: Path, data: Digits, epochs: int) -> tuple[str, list[Exactness]]:
    """Train, export, import and compare one network: a row of the table, and its layers."""
    import torch
    from brevitas import nn as qnn
    from brevitas import quant
    from brevitas.export import export_qonnx

    torch.set_num_threads(1)  # the layers are too small for more
    torch.manual_seed(0)
    model = NETWORKS[name](torch.nn, qnn, quant)
    train(model, data, epochs)
    path = folder / f"{name}.onnx"
    export_qonnx(model, args=torch.from_numpy(data.test_x[:1]), export_path=str(path))
    with torch.no_grad():
        result = model(torch.from_numpy(data.test_x))
    real = getattr(result, "value", result).numpy().astype(np.float64)
    imported = load_onnx(path)
    graph = imported.graph
    ours = reference.run(graph, quantize_input(graph, data.test_x))
    scale = reference.Reference(graph).types[graph.output].scale
    assert scale is not None
    apart = np.abs(ours - np.rint(real / scale))
    float_right, right = ((z.argmax(1) == data.test_y).mean() for z in (real, ours))
    row = (
        f"{name:16}{float_right:>10.1%}{right:>10.1%}{(apart == 0).mean():>10.2%}"
        f"{int(apart.max()):>10}"
    )
    return row, list(imported.exactness)


def rtl(path: Path, data: Digits, images: int) -> str:
    """Build the Verilog of a file, run images on Verilator, compare with the integer graph."""
    graph, out = load_onnx(path).graph, path.with_suffix(".rtl")
    x = quantize_input(graph, data.test_x[:images])
    try:
        cycles = build(str(path), out)["initiation_interval"]
    except InputError as error:
        return f"  no Verilog: {error}"
    equal = np.array_equal(run_frames(out, x), reference.run(graph, x))
    verdict = "equal to the graph" if equal else "DIFFERENT from the graph"
    return f"  Verilog: {images} images {verdict}, one every {cycles:,} cycles"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--network", choices=sorted(NETWORKS), nargs="+", default=list(NETWORKS))
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--rtl", type=int, metavar="N", help="run N images on the Verilog")
    options = parser.parse_args()
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(f"skipped: needs {', '.join(missing)} (dependency group brevitas)")
        return 0
    warnings.simplefilter("ignore")
    folder = options.out or Path(tempfile.mkdtemp(prefix="qonnx_"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        data = digits()
        rows = {name: measure(name, folder, data, options.epochs) for name in options.network}
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{'network':16}{'float':>10}{'integer':>10}{'equal':>10}{'largest':>10}")
    for row, _ in rows.values():
        print(row)
    for name, (_, layers) in rows.items():
        print(f"\n{name}")
        if options.rtl:
            print(rtl(folder / f"{name}.onnx", data, options.rtl), flush=True)
        for item in layers:
            print(f"  {item.layer:40.40}{item.form:12}{item.share:>9.3%}  {item.note}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
