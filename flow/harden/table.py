"""What a plan is made of and why: each option's area, and what it removes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .front import Point
from .options import Group, Option
from .predict import Predictor

__all__ = ["described", "options_table", "plan_table"]

Json = dict[str, Any]


def described(fields: Mapping[str, Any]) -> str:
    """Fields of a protection in words.

    >>> described({"control": "tmr", "modulus": 3, "neurons": (0, 5)})
    'control tmr, checksum 3, tmr of 2 neurons'
    """
    words = []
    for key, value in fields.items():
        if key == "modulus":
            words.append(f"checksum {value}")
        elif key == "neurons":
            words.append(f"tmr of {len(value)} neurons")
        elif key != "form":
            words.append(f"{key} {value}")
    return ", ".join(words) or "none"


def plan_table(predictor: Predictor, point: Point) -> list[Json]:
    """For each group that the plan protects: layer, settings, and their row; the watchdog first."""
    chosen = zip(point.groups, point.options, strict=True)
    rows = [_row(predictor, group, group.options[index]) for group, index in chosen if index]
    return [_watchdog(predictor), *rows] if point.watchdog else rows


def _watchdog(predictor: Predictor) -> Json:
    alone = predictor.watched()
    left = sum(alone.left(alone.plain).values()) / predictor.profile.total
    overhead = alone.watchdog_area / predictor.plain_area
    return _line("the output", "watchdog", overhead, 1 - left)


def options_table(predictor: Predictor, point: Point) -> list[Json]:
    """Every option that no other of its group dominates, and whether the plan has it."""
    return [
        _row(predictor, group, option) | {"chosen": number == index}
        for group, index in zip(point.groups, point.options, strict=True)
        for number, option in enumerate(group.options)
        if number
    ]


def _row(predictor: Predictor, group: Group, option: Option) -> Json:
    overhead = option.area / predictor.plain_area
    removes = (group.options[0].left - option.left) / predictor.profile.total
    return _line(group.layer, described(option.fields), overhead, removes)


def _line(layer: str, settings: str, overhead: float, removes: float) -> Json:
    """Area and vulnerable bit-cycles as shares of the plain design's, the second also for each 1 %
    of the first (None where it costs nothing)."""
    return {
        "layer": layer,
        "settings": settings,
        "overhead": overhead,
        "removes": removes,
        "per_percent": removes / (100 * overhead) if overhead > 0 else None,
    }
