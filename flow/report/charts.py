"""Charts as inline SVG, for screen and print: shares as stacked bars, a histogram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ...quant.names import printable

__all__ = ["COLOURS", "bars", "histogram", "text"]

Json = dict[str, Any]

#: Okabe and Ito, colour universal design: told apart with any colour vision.
COLOURS = {
    "hang": "#000000",
    "sdc_critical": "#d55e00",
    "sdc_tolerable": "#e69f00",
    "due": "#0072b2",
    "recovered": "#56b4e9",
    "corrected": "#009e73",
    "false_alarm": "#cc79a7",
    "latent": "#f0e442",
    "masked": "#e8e8e8",
    "detected": "#0072b2",
    "late": "#d55e00",
    "mended": "#009e73",
}
_WIDTH, _LEFT, _STEP = 430, 76, 17
_BAR = _WIDTH - _LEFT


def text(value: object) -> str:
    """Foreign text as HTML: one line, unprintable characters shown, nothing is markup, not cut."""
    return escape("".join(map(printable, str(value))))


def _svg(width: float, height: float, label: str, body: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{text(label)}" '
        'font-family="system-ui, sans-serif" font-size="10">'
        f"<title>{text(label)}</title>{''.join(body)}</svg>"
    )


def _rect(x: float, y: float, width: float, height: float, kind: str, title: str) -> str:
    return (
        f'<rect x="{x:.2f}" y="{y:.2f}" width="{max(width, 0):.2f}" height="{height:.2f}" '
        f'fill="{COLOURS[kind]}"><title>{text(title)}</title></rect>'
    )


def _label(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text(words)}</text>'


def _legend(kinds: Sequence[str], y: float) -> tuple[list[str], float]:
    """The colours in lines from `y` on, and where they end."""
    parts, x = [], float(_LEFT)
    for kind in kinds:
        name = kind.replace("_", " ")
        width = 22 + 5.2 * len(name)
        if x + width > _WIDTH:
            x, y = float(_LEFT), y + 12
        parts += [_rect(x, y, 8, 8, kind, name), _label(x + 11, y + 8, name)]
        x += width
    return parts, y + 12


def bars(rows: Mapping[str, Mapping[str, int]], kinds: Sequence[str], label: str) -> str:
    """A bar a row, divided by the shares of `kinds` among all that the row counts."""
    there = [kind for kind in kinds if any(row.get(kind) for row in rows.values())]
    parts = []
    for number, (name, counts) in enumerate(rows.items()):
        total, x, y = sum(counts.values()) or 1, float(_LEFT), number * _STEP
        parts.append(_label(_LEFT - 5, y + 11, name, "end"))
        for kind in there:
            width = _BAR * counts.get(kind, 0) / total
            share = f"{name}: {kind} {counts.get(kind, 0)} of {total}"
            parts.append(_rect(x, y + 2, width, _STEP - 4, kind, share))
            x += width
    legend, end = _legend(there, len(rows) * _STEP + 6)
    return _svg(_WIDTH, end, label, parts + legend)


def histogram(bins: Sequence[Json], kinds: Sequence[str], label: str) -> str:
    """A stacked column a bin, with its bounds below; the tallest fills the height."""
    there = [kind for kind in kinds if any(row[kind] for row in bins)]
    tall, height = max(sum(row[kind] for kind in there) for row in bins) or 1, 96
    step = min(34.0, (_WIDTH - _LEFT) / max(1, len(bins)))
    parts = [_label(_LEFT - 5, 8, f"{tall:,}", "end"), _label(_LEFT - 5, height, "0", "end")]
    for number, row in enumerate(bins):
        x, y = _LEFT + number * step, float(height)
        bounds = f"{row['from']}" if row["from"] == row["to"] else f"{row['from']}..{row['to']}"
        for kind in there:
            tallness = height * row[kind] / tall
            y -= tallness
            parts.append(_rect(x, y, step - 2, tallness, kind, f"{bounds} cycles: {row[kind]}"))
        parts.append(_label(x + step / 2, height + 11, f"{row['from']}", "middle"))
    parts.append(
        _label(_LEFT, height + 23, "cycles from the strike to the first flagged beat, from")
    )
    legend, end = _legend(there, height + 29)
    return _svg(_WIDTH, end, label, parts + legend)
