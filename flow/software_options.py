"""Options of `tercet inject --engine software`: laws of tensor faults on the integer graph."""

from __future__ import annotations

import argparse
from typing import Any

from ..quant.errors import InputError

__all__ = ["add", "check", "software"]

LAWS = ("single", "ber", "mibb", "ibb", "permanent", "adsaf", "adsaf-bit")
_OWN = ("law", "tensor", "device")


def add(command: argparse.ArgumentParser) -> None:
    """The options."""
    group = command.add_argument_group("engine software: tensor faults; --rate is the law's")
    group.add_argument("--law", choices=LAWS, help="what strikes an inference (default: single)")
    group.add_argument(
        "--tensor", metavar="T", help="words that laws single and ber strike (default: accumulator)"
    )
    group.add_argument("--device", metavar="D", help="torch device (default: NumPy on the CPU)")


def check(args: argparse.Namespace) -> None:
    """InputError for these options with another engine."""
    for name in _OWN:
        if getattr(args, name) is not None:
            raise InputError(f"--{name} needs --engine software")


def software(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `sim.software_campaign`."""
    if args.directory is None:
        raise InputError("give the build directory DIR")
    if len(args.layer) > 1:
        raise InputError("--layer: engine software takes one")
    given = {"faults": args.faults, "law": args.law}
    return {name: value for name, value in given.items() if value is not None} | {
        "rate": args.rate,
        "layer": args.layer[0] if args.layer else None,
        "tensor": args.tensor,
        "device": args.device,
        "inputs": args.inputs,
        "seed": args.seed,
        "confidence": args.confidence,
    }
