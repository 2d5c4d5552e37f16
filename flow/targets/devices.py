"""The devices tercet knows, as data; capacities are those of the vendors' family tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...quant.errors import InputError
from ...quant.names import printable
from .families import ECP5, GW1N, GW2A, ICE40_HX, ICE40_UP, XC7, Family

__all__ = ["DEFAULT", "TARGETS", "Target", "find"]


@dataclass(frozen=True)
class Target:
    """One device.

    Parameters: `name` as given to `--target`; `device` the vendor's name; `luts` look-up tables of
    `lut_inputs` inputs; `ffs` flip-flops; `dsps` multipliers (18x18, iCE40 16x16, xc7 25x18);
    `brams` memory blocks of `bram_bits` bits each; `clock_mhz` the clock that frames a second are
    counted with where none is given, an assumption until place and route; `pnr` options for
    nextpnr-ecp5, empty where place and route is not offered.
    """

    name: str
    device: str
    family: Family
    luts: int
    ffs: int
    dsps: int
    brams: int
    lut_inputs: int
    bram_bits: int
    clock_mhz: float
    pnr: tuple[str, ...] = ()

    @property
    def capacity(self) -> dict[str, int]:
        """{luts, ffs, dsps, brams} of the device."""
        return {"luts": self.luts, "ffs": self.ffs, "dsps": self.dsps, "brams": self.brams}

    def excess(self, counts: Mapping[str, float]) -> list[str]:
        """What of `counts` the device has too little of, "dsps 31 of 28"; empty if it fits.

        >>> find("ecp5-25k").excess({"luts": 100, "ffs": 10, "dsps": 31, "brams": 56})
        ['dsps 31 of 28']
        """
        have = self.capacity
        return [f"{key} {counts[key]:g} of {have[key]}" for key in have if counts[key] > have[key]]


def _ecp5(size: str, device: str, luts: int, dsps: int, brams: int) -> Target:
    options = (f"--{size}", "--package", "CABGA381", "--speed", "6")
    return Target(f"ecp5-{size}", device, ECP5, luts, luts, dsps, brams, 4, 18432, 75, options)


DEFAULT = "ecp5-85k"

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        _ecp5("25k", "LFE5U-25F-6BG381C", 24288, 28, 56),
        _ecp5("45k", "LFE5U-45F-6BG381C", 43848, 72, 108),
        _ecp5("85k", "LFE5U-85F-6BG381C", 83640, 156, 208),
        Target("ice40-up5k", "iCE40UP5K-SG48", ICE40_UP, 5280, 5280, 8, 30, 4, 4096, 16),
        Target("ice40-hx8k", "iCE40HX8K-CT256", ICE40_HX, 7680, 7680, 0, 32, 4, 4096, 40),
        Target("gw1n-9", "GW1N-LV9", GW1N, 8640, 6480, 20, 26, 4, 18432, 50),
        Target("gw2a-18", "GW2A-LV18", GW2A, 20736, 15552, 48, 46, 4, 18432, 60),
        Target("xc7a35t", "XC7A35T", XC7, 20800, 41600, 90, 50, 6, 36864, 100),
        Target("xc7a100t", "XC7A100T", XC7, 63400, 126800, 240, 135, 6, 36864, 100),
    )
}


def find(name: str) -> Target:
    """The target of this name; InputError listing the known names if there is none."""
    try:
        return TARGETS[name]
    except KeyError:
        known = ", ".join(sorted(TARGETS))
        raise InputError(f"target {printable(name)!r} is unknown; choose one of {known}") from None
