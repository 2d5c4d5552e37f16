"""A network of a search space, trained, quantised and measured once, and kept.

FOLDER/networks/DIGEST/ holds graph.json, sensitivity.json and metrics.json; it appears whole or not
at all, so that several processes may share a folder and any of them may be killed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...quant import reference, serialize
from ...quant.errors import InputError
from ...quant.ir import Graph
from ...quant.names import printable
from ...quant.quantize import QuantConfig, quantize, quantize_input
from ...quant.sensitivity import Sensitivity, measure
from ...quant.train import accuracy, one_thread, train
from .candidate import NetworkSpec
from .images import Images
from .networks import imported, module
from .space import Space, TrainSpec

__all__ = ["Trained", "judge", "trained", "training_seed"]

VERSION = 1
"""Of training and measurement: another one is not read."""

IMAGES, TRIALS = 64, 384
"""Calibration images that bits are flipped on, and flips of each kind of word: a second or so."""


@dataclass(frozen=True, eq=False)
class Trained:
    """An integer graph, its `error` (0..1) on the select images, its sensitivity to upsets."""

    graph: Graph
    error: float
    sensitivity: Sensitivity


def training_seed(spec: NetworkSpec, train: TrainSpec) -> int:
    """The seed of a network's weights, order of images and upsets: each network has its own."""
    text = f"{train.seed} {spec.digest}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def trained(spec: NetworkSpec, space: Space, images: Callable[[], Images], folder: Path) -> Trained:
    """The network as FOLDER/networks/DIGEST/ holds it, trained and written there if need be.

    Raises InputError where the quantiser refuses it, or `folder` cannot be written or has it from
    another space.
    """
    origin = _origin(space)
    place = folder / "networks" / spec.digest
    if place.is_dir():
        return _read(place, origin)
    found = _train(spec, space.train, images())
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _place(place, found, origin | {"network": spec.to_json()})
    except OSError as error:
        raise InputError(f"{printable(str(folder))}: cannot be written: {error.strerror}") from None
    return found


def _place(place: Path, found: Trained, facts: dict[str, Any]) -> None:
    """Write the folder `place` beside it and move it there, unless another process was faster."""
    work = Path(tempfile.mkdtemp(prefix=".new-", dir=place.parent))
    try:
        _write(work, found, facts)
        work.chmod(0o755)
        work.rename(place)
    except OSError:
        if not place.is_dir():
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _origin(space: Space) -> dict[str, Any]:
    """What else a trained network depends on."""
    data = {key: value for key, value in asdict(space.data).items() if key != "images"}
    document = {"version": VERSION, "train": asdict(space.train), "data": data}
    read: dict[str, Any] = json.loads(json.dumps(document))
    return read


def _train(spec: NetworkSpec, how: TrainSpec, images: Images) -> Trained:
    seed = training_seed(spec, how)
    network = module(spec, seed)
    train(network, images.train_x, images.train_y, epochs=how.epochs, seed=seed)
    config = QuantConfig(weight_bits=spec.weight_bits, act_bits=spec.act_bits, scheme=spec.scheme)
    with one_thread():  # sums of the calibration do not depend on the number of cores
        graph = quantize(imported(network, spec), images.calibration_x, config)
    return judge(graph, images, seed)


def judge(graph: Graph, images: Images, seed: int) -> Trained:
    """Error and sensitivity of an integer graph; the error is that of the integers, exactly."""
    scores = reference.run(graph, quantize_input(graph, images.select_x))
    error = 1.0 - accuracy(scores, images.select_y)
    frames = quantize_input(graph, images.calibration_x)
    table = measure(graph, frames, seed=seed, images=IMAGES, trials=TRIALS)
    return Trained(graph, error, table)


def _write(folder: Path, found: Trained, facts: dict[str, Any]) -> None:
    serialize.save(found.graph, folder / "graph.json")
    _dump(folder / "sensitivity.json", found.sensitivity.to_json())
    _dump(folder / "metrics.json", {"error": found.error, **facts})


def _dump(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value) + "\n")


def _read(folder: Path, origin: dict[str, Any]) -> Trained:
    shown = f"networks/{folder.name}"
    try:
        metrics = json.loads((folder / "metrics.json").read_text())
        table = Sensitivity.from_json(json.loads((folder / "sensitivity.json").read_text()))
        error = float(metrics["error"])
        same = {key: metrics[key] for key in origin} == origin
    except (OSError, ValueError, KeyError, TypeError, InputError):
        raise InputError(f"{shown}: cannot be read; remove it") from None
    if not same:
        raise InputError(
            f"{shown}: was trained for another space (other images, epochs or seeds); give another "
            "folder"
        )
    return Trained(serialize.load(folder / "graph.json"), error, table)
