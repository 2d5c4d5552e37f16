"""Numbers, tables and figures of the page. Everything foreign passes `charts.text`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .charts import text

__all__ = ["figure", "limits", "number", "percent", "ratio", "short", "span", "table"]

Json = dict[str, Any]


def number(value: Any) -> str:
    """Thousands separated, two decimals at most, a missing one as a dash."""
    if type(value) not in (int, float):
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}".rstrip("0").rstrip(".")


def ratio(found: Json) -> tuple[str, str, str]:
    """Value and limits of `sim.campaign.compare`; without an event in the other none is known."""
    value, low, high = (found[key] for key in ("value", "low", "high"))
    none = "no critical upset in the other"
    return (
        none if value is None else f"{value:.3g}",
        f"{low:.3g}",
        "unbounded" if high is None else f"{high:.3g}",
    )


def percent(value: float, digits: int = 2) -> str:
    """A share in percent; a share that is not 0 or 1 never looks like one."""
    shown = f"{100 * value:.{digits}f}"
    step = 10.0**-digits
    if value > 0 and float(shown) == 0:
        return f"<{step:.{digits}f} %"
    if value < 1 and float(shown) == 100:
        return f">{100 - step:.{digits}f} %"
    return f"{shown} %"


def short(rate: Json | None) -> str:
    """A share alone."""
    return "-" if rate is None else percent(rate["value"])


def span(rate: Json | None) -> str:
    """A share with its interval, if it has one."""
    if rate is None:
        return "-"
    return percent(rate["value"]) + (f" ({limits(rate)})" if rate["low"] is not None else "")


def limits(rate: Json) -> str:
    """The interval of a share."""
    if rate["low"] is None:
        return "one input, no interval"
    low, high = (percent(rate[key]).removesuffix(" %") for key in ("low", "high"))
    return f"{low} to {high}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], words: Sequence[int] = ()) -> str:
    """A table; columns `words` are text, the others numbers."""

    def cells(tag: str, row: Sequence[object]) -> str:
        marks = (' class="words"' if n in words else "" for n in range(len(row)))
        pairs = zip(marks, row, strict=True)
        return "".join(f"<{tag}{mark}>{text(value)}</{tag}>" for mark, value in pairs)

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{cells('th', head)}</tr></thead><tbody>{body}</tbody></table>"


def figure(value: str, name: str, more: str = "") -> str:
    """A number in a box, what it is, and its interval."""
    return f"<div><b>{text(value)}</b>{text(name)}<br><span>{text(more)}</span></div>"
