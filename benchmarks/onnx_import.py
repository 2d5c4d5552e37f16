"""Networks quantised by onnxruntime, imported and compared with it layer by layer.

    python benchmarks/onnx_import.py [--epochs N] [--network NAME ...] [--layers] [--rtl N]
                                     [--out OUT]

Five small networks are trained on scikit-learn's digits, exported to ONNX by torch, quantised by
onnxruntime (QDQ and QOperator, per tensor and per channel, s8 and u8 activations, symmetric and
not) and imported. Printed per file: the graph's accuracy on the 360 test images and onnxruntime's;
layers whose integers all equal onnxruntime's when they get its operands; the worst layer, its share
of unequal integers, and the share that the importer stated for it; and the output from end to end.
`--layers` adds a line a layer; `--rtl N` builds the Verilog of every file and runs N test images on
it, which takes about half a minute a file. Needs torch, scikit-learn, onnx and onnxruntime.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tercet.flow.builder import build
from tercet.quant import reference
from tercet.quant.datasets import Digits, digits
from tercet.quant.errors import InputError
from tercet.quant.importers.onnx_compare import Agreement, compare
from tercet.quant.importers.onnx_model import OnnxModel, load_onnx
from tercet.quant.quantize import quantize_input
from tercet.quant.train import train
from tercet.sim.clocked import run_frames

NEEDED = ("torch", "sklearn", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Option:
    """How onnxruntime quantises."""

    form: str
    per_channel: bool
    activations: str
    symmetric: bool = False

    def __str__(self) -> str:
        grain = "channel" if self.per_channel else "tensor"
        return f"{self.form} {grain} {self.activations}{' symmetric' if self.symmetric else ''}"


OPTIONS = (
    Option("QDQ", False, "u8"),
    Option("QDQ", True, "s8"),
    Option("QDQ", True, "s8", symmetric=True),
    Option("QOperator", False, "u8"),
    Option("QOperator", True, "s8"),
)


def networks() -> dict[str, Any]:
    """Name -> an untrained torch module for digits [n, 1, 8, 8]."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    def conv(inputs: int, outputs: int, stride: int = 1, groups: int = 1, size: int = 3) -> Any:
        layer = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
        return nn.Sequential(layer, nn.BatchNorm2d(outputs))

    class Residual(nn.Module):
        """Two residual blocks, the second with a strided shortcut."""

        def __init__(self) -> None:
            super().__init__()
            self.stem, self.a, self.b = conv(1, 16), conv(16, 16), conv(16, 16)
            self.c, self.d, self.short = conv(16, 32, 2), conv(32, 32), conv(16, 32, 2, size=1)
            self.fc = nn.Linear(32, 10)

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.stem(x))
            x = torch.relu(x + self.b(torch.relu(self.a(x))))
            x = torch.relu(self.short(x) + self.d(torch.relu(self.c(x))))
            return self.fc(x.mean((2, 3)))

    class Joined(nn.Module):
        """Concatenations as in DenseNet, with an average pool between."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = conv(1, 12), conv(12, 12), conv(24, 16)
            self.pool, self.fc = nn.AvgPool2d(2), nn.Linear(40, 10)

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.a(x))
            x = self.pool(torch.cat([x, torch.relu(self.b(x))], 1))
            x = torch.cat([x, torch.relu(self.c(x))], 1)
            return self.fc(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))

    depthwise = [conv(1, 16, 2), nn.ReLU6()]
    for inputs, outputs in ((16, 24), (24, 32)):
        depthwise += [conv(inputs, inputs, groups=inputs), nn.ReLU6()]
        depthwise += [conv(inputs, outputs, size=1), nn.ReLU6()]
    depthwise += [nn.AvgPool2d(4), nn.Flatten(), nn.Linear(32, 10), nn.Softmax(1)]
    lenet = [nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=2)]
    lenet += [nn.Hardtanh(), nn.AvgPool2d(3, 2, 1), nn.Flatten(), nn.Linear(144, 10)]
    perceptron = [nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)]
    return {
        "residual": Residual(),
        "joined": Joined(),
        "depthwise": nn.Sequential(*depthwise),
        "lenet": nn.Sequential(*lenet),
        "perceptron": nn.Sequential(*perceptron),
    }


def export(module: Any, path: Path) -> None:
    """Write a float ONNX file with an open batch axis."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (torch.zeros(1, 1, 8, 8),),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
        )


def quantise(source: Path, path: Path, option: Option, frames: np.ndarray[Any, Any]) -> None:
    """onnxruntime's quantize_static with `frames` [n, 1, 8, 8] as calibration."""
    from onnxruntime import quantization as ort

    class Reader(ort.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.frames = iter([{"x": frame[None]} for frame in frames])

        def get_next(self) -> Any:
            return next(self.frames, None)

    ort.quantize_static(
        source,
        path,
        Reader(),
        quant_format=ort.QuantFormat[option.form],
        per_channel=option.per_channel,
        activation_type=ort.QuantType.QInt8 if option.activations == "s8" else ort.QuantType.QUInt8,
        weight_type=ort.QuantType.QInt8,
        extra_options={"ActivationSymmetric": option.symmetric},
    )


def accuracies(path: Path, model: OnnxModel, data: Digits) -> tuple[float, float]:
    """Of the integer graph and of onnxruntime, on the test images."""
    import onnxruntime

    ours = reference.run(model.graph, quantize_input(model.graph, data.test_x)).argmax(1)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    theirs = session.run(None, {"x": data.test_x.astype(np.float32)})[0].argmax(1)
    return float((ours == data.test_y).mean()), float((theirs == data.test_y).mean())


def show(name: str, option: Option, path: Path, data: Digits, layers: bool) -> None:
    """One line for a file, and one a layer if asked."""
    model = load_onnx(path)
    found, end = compare(path, model, quantize_input(model.graph, data.test_x))
    stated = {item.layer: item for item in model.exactness}
    worst = max(found, key=lambda layer: layer.share)
    equal = sum(layer.share == 0 for layer in found)
    ours, theirs = accuracies(path, model, data)
    print(
        f"{name:11}{option!s:26}{ours:8.2%}{theirs:9.2%}{equal:5}/{len(found):<3}"
        f"{worst.layer:28}{worst.share:9.4%}{stated[worst.layer].share:9.4%}{_end(end)}"
    )
    for layer in found if layers else ():
        form = stated[layer.layer].form
        share = stated[layer.layer].share
        print(
            f"    {layer.layer:32}{form:12}{layer.share:9.4%} unequal, largest {layer.largest}; "
            f"stated {share:.4%}{stated[layer.layer].note and ': ' + stated[layer.layer].note}"
        )


def rtl(path: Path, folder: Path, data: Digits, images: int) -> None:
    """Build the Verilog of a file, run images on Verilator, compare with the integer graph."""
    graph = load_onnx(path).graph
    x = quantize_input(graph, data.test_x[:images])
    out = folder / f"{path.stem}_rtl"
    result = build(str(path), out)
    equal = np.array_equal(run_frames(out, x), reference.run(graph, x))
    cycles = result["initiation_interval"]
    verdict = "equal to the graph" if equal else "DIFFERENT from the graph"
    print(f"    Verilog: {images} images {verdict}, one every {cycles:,} cycles", flush=True)


def _end(end: Agreement | None) -> str:
    return f"{'-':>10}" if end is None else f"{1 - end.share:10.2%}{end.largest:5}"


def main() -> int:
    """Train, quantise, import, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--network", action="append", metavar="NAME", help="default: all")
    parser.add_argument("--layers", action="store_true", help="a line a layer")
    parser.add_argument("--rtl", type=int, metavar="N", help="run N images on the Verilog")
    parser.add_argument("--out", type=Path, help="keep the ONNX files here")
    args = parser.parse_args()
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(f"skipped: {', '.join(missing)} not installed", file=sys.stderr)
        return 0
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)  # the exporter's unused constants are no news
    logging.disable(logging.WARNING)
    data = digits()
    head = ("network", "quantised", "ours", "theirs", "equal", "worst layer", "measured", "stated")
    print("{:11}{:26}{:>8}{:>9}{:>9} {:27}{:>9}{:>9}".format(*head) + f"{'output':>10}{'max':>5}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name, module in networks().items():
            if args.network and name not in args.network:
                continue
            train(module, data.train_x, data.train_y, epochs=args.epochs, seed=0)
            export(module, folder / f"{name}.onnx")
            for number, option in enumerate(OPTIONS):
                path = folder / f"{name}_{number}.onnx"
                quantise(folder / f"{name}.onnx", path, option, data.calibration_x)
                try:
                    show(name, option, path, data, args.layers)
                    if args.rtl:
                        rtl(path, folder, data, args.rtl)
                except InputError as error:
                    print(f"{name:11}{option!s:26}refused: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
