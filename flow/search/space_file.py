"""A search space as a TOML file; docs/search.md describes every key."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ...quant.errors import InputError
from ...quant.names import printable
from ...quant.quant_config import SCHEMES
from .. import targets
from ..plan import Plan
from ..plan_file import parse_plan
from .candidate import FAMILIES, HEADS
from .engine import ALGORITHMS
from .images import content_digest, describe
from .objectives import NAMES, is_own, own_file
from .space import FIT, NO_PLAN, DataSpec, Gene, SearchSpec, Space, TrainSpec
from .space_keys import Table

__all__ = ["load_space"]

MULTIPLIERS = ("dsp", "lut")
TABLES = (
    "data", "network", "train", "hardware", "plans", "objectives", "constraints", "search",
)  # fmt: skip
LEAST_POPULATION = 4
MOST_SEED = (1 << 32) - 1
"""Of scikit-learn's split."""


def load_space(path: Path) -> Space:
    """Read a search space. Raises InputError naming the file, the key and the fix."""
    where, raw = printable(path.name), _parse(path)
    for key in raw:
        if key not in TABLES:
            raise InputError(
                f"{where}: unknown table [{printable(key)}]; known: {', '.join(TABLES)}"
            )

    def table(name: str) -> Table:
        return Table(where, name, raw.get(name, {}))

    data = _data(table("data"), path.parent)
    network = _network(table("network"), data)
    plans = _plans(where, raw.get("plans", {}))
    target, hardware = _hardware(table("hardware"), plans)
    objectives, reference = _objectives(table("objectives"), path.parent)
    constraints = _constraints(table("constraints"), path.parent)
    files = {name for name in (*objectives, *constraints) if is_own(name)}
    return Space(
        genes=(*network, *hardware),
        data=data,
        train=_train(table("train")),
        target=target,
        plans=plans,
        objectives=objectives,
        constraints=constraints,
        search=_search(table("search")),
        reference=reference,
        folder=path.parent.absolute(),
        sources={name: content_digest(own_file(name, path.parent)) for name in sorted(files)},
    )


def _parse(path: Path) -> dict[str, Any]:
    where = printable(path.name)
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{where}: no such search space") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{where}: not a TOML file: {printable(str(error))}") from None


def _data(table: Table, folder: Path) -> DataSpec:
    if {"images", "name"} <= set(table.left):
        raise InputError(f"{table.at} name and images exclude each other; give one of them")
    images = table.take("images", "X.npz", None)
    table.word("name", ("digits",), "digits")
    seed = table.integer("seed", 0, 0)
    table.end()
    if seed > MOST_SEED:
        raise InputError(f"{table.at} seed must be at most {MOST_SEED}, not {seed}")
    if images is not None and not isinstance(images, str):
        raise table.wrong("images", "the name of an .npz file", images)
    try:
        return describe(None if images is None else folder / images, seed)
    except InputError as error:
        raise InputError(f"{table.file}: {error}") from None


def _network(table: Table, data: DataSpec) -> list[Gene]:
    family = table.words("family", FAMILIES)
    stages = table.integers("stages", 1)
    blocks, width = table.integers("blocks", 1), table.integers("width", 1)
    kernel = table.odd("kernel")
    rest: dict[str, tuple[Any, ...]] = {
        "head": table.words("head", HEADS, "flatten"),
        "weight_bits": table.integers("weight_bits", 2, 8, 8),
        "act_bits": table.integers("act_bits", 2, 8, 8),
        "scheme": table.words("scheme", SCHEMES, "scale"),
    }
    table.end()
    height, across = data.input_shape[1:]
    most = min(height, across).bit_length() - 1
    if max(stages) > most:
        raise InputError(
            f"{table.at} stages {max(stages)}: each stage halves the image, and images of "
            f"{height} x {across} pixels can be halved {most} times; give at most {most}"
        )
    chosen: dict[str, tuple[Any, ...]] = {"family": family, "stages": stages}
    for stage in range(1, max(stages) + 1):
        chosen |= {f"blocks{stage}": blocks, f"width{stage}": width, f"kernel{stage}": kernel}
    return [Gene(name, choices, "network") for name, choices in (chosen | rest).items()]


def _hardware(table: Table, plans: dict[str, Plan]) -> tuple[str, list[Gene]]:
    target = table.take("target", "a device", targets.DEFAULT)
    if not isinstance(target, str):
        raise table.wrong("target", "the name of a device", target)
    try:
        targets.find(target)
    except InputError as error:
        raise InputError(f"{table.at} {error}") from None
    chosen: dict[str, tuple[Any, ...]] = {
        "interval": table.integers("interval", 1),
        "multiplier": table.words("multiplier", MULTIPLIERS, "dsp"),
        "plan": _plan_names(table, plans),
    }
    table.end()
    return target, [Gene(name, choices, "hardware") for name, choices in chosen.items()]


def _plan_names(table: Table, plans: dict[str, Plan]) -> tuple[str, ...]:
    names = table.texts("plan") if "plan" in table.left else (NO_PLAN,)
    for name in names:
        if name != NO_PLAN and name not in plans:
            raise InputError(
                f"{table.at} plan {printable(name)!r} has no table [plans.{printable(name)}]; "
                f"write one, or choose one of {', '.join([NO_PLAN, *map(printable, plans)])}"
            )
    for name in plans:
        if name not in names:
            shown = printable(name)
            raise InputError(f"{table.at} plan does not name [plans.{shown}]; add it, or remove it")
    return names


def _plans(where: str, raw: Any) -> dict[str, Plan]:
    if not isinstance(raw, dict):
        raise InputError(f"{where}: [plans] must hold tables [plans.NAME.default]")
    found = {}
    for name, table in raw.items():
        at = f"{where}: [plans.{printable(name)}]"
        if name == NO_PLAN:
            raise InputError(f"{at}: the name stands for no protection; choose another")
        if isinstance(table, dict) and "layer" in table:
            raise InputError(
                f"{at}: layers differ from network to network; write "
                f"[plans.{printable(name)}.default] only"
            )
        found[name] = parse_plan(table, at)
    return found


def _objectives(table: Table, folder: Path) -> tuple[tuple[str, ...], dict[str, float]]:
    names = table.texts("minimise")
    for name in names:
        _known(table, "minimise", name, folder, NAMES)
    point = table.take("reference", "a table", {})
    table.end()
    inner = Table(table.file, "objectives.reference", point)
    reference = {name: inner.number(name) for name in names if name in inner.left}
    inner.end()
    if reference and len(reference) < len(names):
        lacks = next(name for name in names if name not in reference)
        raise InputError(f"{inner.at} {printable(lacks)} is missing; give it for every objective")
    return names, reference


def _constraints(table: Table, folder: Path) -> dict[str, float]:
    found = {}
    for name in list(table.left):
        _known(table, "", name, folder, (FIT, *NAMES))
        found[name] = table.number(name, 1 if name == FIT else float("inf"))
    return found


def _known(table: Table, key: str, name: str, folder: Path, names: Iterable[str]) -> None:
    """InputError unless an objective is known, or a file of the user's that is there."""
    if name in names:
        return
    at = f"{table.at} {key}".rstrip()
    if not is_own(name):
        raise InputError(
            f"{at}: unknown objective {printable(name)!r}; known: {', '.join(names)}, FILE.py:NAME"
        )
    try:
        own_file(name, folder)
    except InputError as error:
        raise InputError(f"{at}: {error}") from None


def _train(table: Table) -> TrainSpec:
    found = TrainSpec(epochs=table.integer("epochs", 1, 12), seed=table.integer("seed", 0, 0))
    table.end()
    return found


def _search(table: Table) -> SearchSpec:
    found = SearchSpec(
        algorithm=table.word("algorithm", ALGORITHMS, "nsga2"),
        population=table.integer("population", LEAST_POPULATION, 24),
        evaluations=table.integer("evaluations", 1, 240),
        seed=table.integer("seed", 0, 0),
    )
    table.end()
    return found
