"""Numbers on the command line: parsers that say what they wanted."""

from __future__ import annotations

import argparse
import math

__all__ = ["count", "percent", "positive", "share", "small", "whole"]


def positive(text: str) -> float:
    """A plain decimal number above 0."""
    if not text.replace(".", "", 1).isdecimal() or not 0 < float(text) < 1e6:
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text!r}")
    return float(text)


def percent(text: str) -> float:
    """A percentage such as 10%, above 0, as a share."""
    number = text.removesuffix("%")
    plain = number.replace(".", "", 1).isdecimal() and text.endswith("%")
    if not plain or not 0 < float(number) < 1e6:
        raise argparse.ArgumentTypeError(f"must be a percentage above 0 such as 10%, not {text!r}")
    return float(number) / 100


def small(text: str) -> float:
    """A number above 0, with an exponent if need be."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0 such as 1e-9, not {text!r}")
    return value


def share(text: str) -> float:
    """A probability above 0, up to 1."""
    if not text.replace(".", "", 1).isdecimal() or not 0 < float(text) <= 1:
        raise argparse.ArgumentTypeError(f"must be a share above 0 and up to 1, not {text!r}")
    return float(text)


def count(text: str) -> int:
    """An integer of 1 or more."""
    if not text.isdecimal() or not 1 <= int(text) < 1 << 31:
        raise argparse.ArgumentTypeError(f"must be an integer of 1 or more, not {text!r}")
    return int(text)


def whole(text: str) -> int:
    """An integer of 0 or more."""
    if not text.isdecimal() or not int(text) < 1 << 31:
        raise argparse.ArgumentTypeError(f"must be an integer of 0 or more, not {text!r}")
    return int(text)
