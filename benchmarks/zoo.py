"""The zoo through calibration to the integer graph: size, accuracy, time, memory of each network.

    python benchmarks/zoo.py [--data DIR] [--network NAME ...] [--out OUT]

DIR holds cifar10/, fashion_mnist/ and weights/ (the files are listed in docs/zoo.md). With it,
ResNet-20 gets its published weights, LeNet-5 and ResNet-8 are trained (about one and ten minutes
of one core; OUT keeps the weights) and accuracies are measured with the reference. Every other
network has random weights and batch norms settled on its calibration inputs. Writes
OUT/NAME.json, the calibrated graph, and OUT/NAME.npz, `x` of integer frames. Each network runs in
a process of its own. Times are seconds of processor time (all cores together), so that other load
changes them little; peak memory is that of the whole process, torch and data set included.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from tercet.quant import ir, reference, serialize
from tercet.quant.errors import InputError
from tercet.quant.image_files import CIFAR10_MEAN, CIFAR10_STD, Images, cifar10, idx_images, scaled
from tercet.quant.importers.torch_module import import_torch
from tercet.quant.models import zoo
from tercet.quant.models.resnet import load_resnet20
from tercet.quant.quantize import QuantConfig, quantize, quantize_input
from tercet.quant.train import accuracy, predict, train
from tercet.sim.statistics import wilson

CALIBRATION = 256  # images
SPEED = 128  # frames that time the reference where there is no test set
RECIPES: dict[str, dict[str, Any]] = {
    "lenet5": {"epochs": 6, "batch_size": 128, "learning_rate": 3e-3},
    "resnet8": {"epochs": 5, "batch_size": 128, "learning_rate": 1e-2, "mirror": True},
}
FOLDERS = {
    "lenet5": "fashion_mnist",
    "resnet8": "cifar10",
    "resnet20": "cifar10",
    "densenet": "cifar10",
}
CHECKPOINT = "resnet20-12fca82f.th"
Array = np.ndarray[Any, Any]


def images(name: str, folder: Path | None) -> Images | None:
    """The data set of a network, None without one."""
    if folder is None or name not in FOLDERS:
        return None
    load = idx_images if FOLDERS[name] == "fashion_mnist" else cifar10
    return load(folder / FOLDERS[name])


def real(name: str, pixels: Array) -> Array:
    """Pixels as the network wants them."""
    if name == "resnet20":
        return scaled(pixels, CIFAR10_MEAN, CIFAR10_STD)
    return scaled(pixels)


def module_of(name: str, data: Images | None, calibration: Array, args: Any) -> tuple[Any, str]:
    """The module and where its weights come from."""
    module, _ = zoo.network(name)
    if name == "resnet20" and data is not None:
        return load_resnet20(args.data / "weights" / CHECKPOINT), CHECKPOINT
    if name not in RECIPES or data is None:
        zoo.settle(module, calibration)
        return module, "random"
    import torch

    kept = args.out / f"{name}.pt"
    if kept.is_file():
        module.load_state_dict(torch.load(kept, weights_only=True))
        return module, f"trained ({kept.name})"
    print(f"{name}: training {RECIPES[name]['epochs']} epochs", file=sys.stderr)
    began = time.process_time()
    train(module, real(name, data.train_x), data.train_y, seed=0, **RECIPES[name])
    torch.save(module.state_dict(), kept)
    return module, f"trained {time.process_time() - began:.0f} core s"


def measure(name: str, args: Any) -> dict[str, str]:
    """One row of the table."""
    shape, data = zoo.entry(name).input_shape, images(name, args.data)
    if data is None:
        patterns = zoo.synthetic(shape, CALIBRATION + SPEED)
        calibration, frames = patterns[:CALIBRATION], patterns[CALIBRATION:]
    else:
        calibration, frames = real(name, data.train_x[:CALIBRATION]), real(name, data.test_x)
    module, weights = module_of(name, data, calibration, args)
    graph, seconds = integer_graph(module, shape, calibration, args.out / f"{name}.json")
    x = quantize_input(graph, frames)
    np.savez_compressed(args.out / f"{name}.npz", x=x[: args.frames])
    scores = predict(module, frames)
    ready = time.process_time()
    integers = reference.run(graph, x)
    speed = len(x) / (time.process_time() - ready)
    judged = data is not None and weights != "random"
    same = (scores.argmax(1) == integers.argmax(1)).mean()
    labels = data.test_y if data is not None and judged else None
    return {
        "network": name,
        "parameters": f"{zoo.parameters(module, statistics=zoo.entry(name).statistics):,}",
        "MACs": f"{zoo.macs(graph):,}",
        "weights": weights,
        "float": share(scores, labels),
        "int8": share(integers, labels),
        "same top-1": f"{100 * same:.1f} %" if judged else "-",
        "correlation": f"{np.corrcoef(scores.ravel(), integers.ravel())[0, 1]:.4f}",
        **seconds,
        "images/core s": f"{speed:.0f}",
        "peak MiB": f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10}",
    }


def integer_graph(
    module: Any, shape: tuple[int, ...], calibration: Array, path: Path
) -> tuple[ir.Graph, dict[str, str]]:
    """The graph as `path` holds it, and processor seconds of each step."""
    times = [time.process_time()]
    float_graph = import_torch(module, shape)
    times.append(time.process_time())
    graph = quantize(float_graph, calibration, QuantConfig())
    graph = dataclasses.replace(graph, name=path.stem)
    times.append(time.process_time())
    serialize.save(graph, path)
    times.append(time.process_time())
    graph = serialize.load(path)
    times.append(time.process_time())
    steps = ("import", "quantise", "save", "load")
    seconds = np.diff(times)
    return graph, {f"{k} core s": f"{v:.2f}" for k, v in zip(steps, seconds, strict=True)}


def share(scores: Array, labels: Array | None) -> str:
    """Accuracy in per cent with its 95 % interval (Wilson)."""
    if labels is None:
        return "-"
    right = round(accuracy(scores, labels) * len(labels))
    low, high = wilson(right, len(labels))
    return f"{100 * right / len(labels):.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def show(rows: list[dict[str, str]]) -> None:
    """One network a column: the table is read beside others of one network."""
    widths = [max(len(value) for value in row.values()) for row in rows]
    for key in rows[0]:
        cells = [row[key].rjust(width) for row, width in zip(rows, widths, strict=True)]
        print(f"{key:<15}", *cells, sep="  ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of data sets and weights")
    parser.add_argument("--network", nargs="+", metavar="NAME", default=list(zoo.ZOO))
    parser.add_argument("--out", type=Path, help="where graphs and frames go; default: nowhere")
    parser.add_argument("--frames", type=int, default=24, help="frames in NAME.npz (24)")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        args.out = args.out or Path(folder)
        args.out.mkdir(parents=True, exist_ok=True)
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, spawn, max_tasks_per_child=1) as pool:
            try:
                for name in args.network:
                    zoo.entry(name)
                    rows.append(pool.submit(measure, name, args).result())
                    print(f"{name}: {args.out / name}.json", file=sys.stderr)
            except (InputError, ValueError) as error:  # ValueError: the checkpoint
                print(f"zoo: {error}", file=sys.stderr)
                sys.exit(2)
    show(rows)


if __name__ == "__main__":
    main()
