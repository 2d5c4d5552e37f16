"""Filling a table: every network of a grid space trained, struck by bit errors and priced.

A row is one JSON file, written whole: what was measured of the network, and the objectives of each
of its circuits or why there are none. A run that was stopped goes on with the missing rows.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...quant import reference
from ...quant.errors import ClaimError, InputError
from ...quant.faults import BitErrors, Tensor, draw
from ...quant.faults.single import single_bits
from ...quant.ir import Graph, IntArray
from ...quant.names import printable
from ...quant.quantize import quantize_input
from ...sim.engines.software import SoftwareEngine
from ...sim.outcomes import Outcome
from . import topology
from .candidate import Candidate, NetworkSpec
from .crew import Crew
from .images import Images, load_images
from .space import Space
from .tabular import Table, hardware, networks, table_digest

__all__ = ["SINGLE", "STRIKES", "Measures", "Rows", "fill", "measured"]

Json = dict[str, Any]

STRIKES = {
    "ccr_maps_1e-3": BitErrors(1e-3, Tensor.ACTIVATION),
    "ccr_maps_3e-3": BitErrors(3e-3, Tensor.ACTIVATION),
    "ccr_weights_1e-3": BitErrors(1e-3, Tensor.WEIGHT),
}
"""Columns of the classification change rate: the law that strikes every inference."""
SINGLE = "ccr_map_bit"
"""The change rate when one bit, any of all feature maps, flips in every inference."""
INDICES: tuple[Callable[[Graph], float], ...] = (
    topology.adcr,
    topology.macs,
    topology.parameters,
    topology.depth,
    topology.peak_activation_bytes,
    topology.weight_bytes,
)
"""Columns of the topology beside R-ASI."""
IMAGES, REPEATS, SINGLES = 100, 10, 200
"""Selection images that are struck, and how often each, by a law and by single flips."""


class Measures(Protocol):
    """What the rows need of `evaluate.Evaluator`."""

    def train_network(self, spec: NetworkSpec) -> Any:
        """The trained network: `graph`, and `error` on the selection images."""

    def evaluate(self, candidate: Candidate) -> Mapping[str, float]:
        """The objectives of a candidate. Raises InputError for a circuit that is refused."""


Make = Callable[[Space, Path], Measures]


@dataclass(frozen=True)
class Rows:
    """Measures networks: called with a candidate, it writes its network's row into `folder`, and
    returns what was measured. Evaluators come from `make(space, folder)` when first needed."""

    space: Space
    folder: Path
    make: Make

    def path(self, spec: NetworkSpec) -> Path:
        """Where the row of a network is kept."""
        return self.folder / "rows" / f"{spec.digest}.json"

    def claim(self) -> None:
        """Write whose rows the folder holds; InputError if they are those of another space."""
        path, digest = self.folder / "table.json", table_digest(self.space)
        (self.folder / "rows").mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            _write(path, {"space": digest})
        elif _read(path).get("space") != digest:
            shown = printable(self.folder.name)
            raise InputError(f"{shown}: holds rows of another space; give another folder")

    @functools.cached_property
    def evaluator(self) -> Measures:
        """Of this process."""
        return self.make(self.space, self.folder)

    @functools.cached_property
    def images(self) -> Images:
        """Of the space."""
        return load_images(self.space.data)

    def __call__(self, candidate: Candidate) -> Mapping[str, float]:
        spec = candidate.network
        trained = self.evaluator.train_network(spec)
        found = {"error": trained.error}
        found |= measured(trained.graph, self.images, int(spec.digest[:12], 16))
        circuits = [self._objectives(candidate, row) for row in hardware(self.space)]
        _write(self.path(spec), {"measured": found, "objectives": circuits})
        return found

    def _objectives(self, candidate: Candidate, row: IntArray) -> Json:
        """The objectives of a circuit of the candidate's network, or why there are none."""
        other = self.space.decode(row)
        try:
            return dict(self.evaluator.evaluate(replace(other, network=candidate.network)))
        except InputError as error:
            return {"refused": str(error)}


def fill(
    space: Space,
    folder: Path,
    make: Make,
    *,
    workers: int = 0,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Table:
    """Measure every row that `folder` lacks, and return the table.

    `limit` takes so many networks, evenly spread over the space; `workers` are processes, 0: this
    one. `make` is a function of a module. `progress` gets rows done, and rows in all. Raises
    InputError if the folder holds another space or a row cannot be read, ClaimError where a network
    cannot be measured.
    """
    encodings = networks(space)
    if limit is not None and limit < len(encodings):
        encodings = encodings[np.linspace(0, len(encodings) - 1, limit).astype(np.int64)]
    rows = Rows(space, folder, make)
    rows.claim()
    candidates = [space.decode(encoding) for encoding in encodings]
    paths = [rows.path(candidate.network) for candidate in candidates]
    missing = [one for one, path in zip(candidates, paths, strict=True) if not path.is_file()]

    def done(count: int) -> None:
        if progress is not None:
            progress(len(candidates) - len(missing) + count, len(candidates))

    with Crew(rows, min(workers, len(missing))) as crew:
        for result in crew.run(missing, done):
            if result.failure is not None:
                raise ClaimError(f"a network cannot be measured: {result.failure}")
    return _table(space, encodings, [_read(path) for path in paths])


def measured(graph: Graph, images: Images, seed: int) -> dict[str, float]:
    """Of a network, beside its error: accuracy on the test images, classification change rates on
    the first selection images (`STRIKES` and `SINGLE`, faults drawn from `seed`), its topology."""
    select, test = (quantize_input(graph, x) for x in (images.select_x[:IMAGES], images.test_x))
    logits = reference.run(graph, test).reshape(len(test), -1)
    engine = SoftwareEngine(graph, select)
    found = {"test_accuracy": float((logits.argmax(axis=1) == images.test_y).mean())}
    frame = np.tile(np.arange(len(select)), REPEATS)
    for name, law in STRIKES.items():
        outcome = engine.run(draw(law, graph, frame, seed=seed)).outcome
        found[name] = float((outcome == Outcome.SDC_CRITICAL).mean())
    frame = np.tile(np.arange(len(select)), SINGLES)
    flips = single_bits(graph, frame, Tensor.ACTIVATION, seed=seed)
    found[SINGLE] = float((engine.run(flips).outcome == Outcome.SDC_CRITICAL).mean())
    found |= {f"asi_{form}": value for form, value in asdict(topology.asi(graph)).items()}
    return found | {one.__name__: float(one(graph)) for one in INDICES}


def _write(path: Path, content: Json) -> None:
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(content) + "\n")
    partial.replace(path)


def _read(path: Path) -> Json:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        raise InputError(f"{printable(path.name)}: cannot be read; remove it") from None
    return dict(found)


def _table(space: Space, encodings: IntArray, rows: list[Json]) -> Table:
    names = space.asked
    values = [
        [[circuit.get(name, np.nan) for name in names] for circuit in row["objectives"]]
        for row in rows
    ]
    columns = {
        name: np.array([row["measured"][name] for row in rows]) for name in rows[0]["measured"]
    }
    return Table(space, encodings, names, np.array(values, dtype=np.float64), columns)
