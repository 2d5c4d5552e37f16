"""Devices as data."""

import pytest

from tercet.flow import targets
from tercet.flow.targets import families
from tercet.quant.errors import InputError


def test_every_target_is_found_by_its_name():
    for name, target in targets.TARGETS.items():
        assert targets.find(name) is target
        assert name == name.lower()
        assert target.luts > 1000


def test_the_default_target_exists():
    assert targets.find(targets.DEFAULT).family is families.ECP5


def test_unknown_target_lists_the_names():
    with pytest.raises(InputError, match=r"'zynq' is unknown; choose one of ecp5-25k, .*xc7a35t"):
        targets.find("zynq")


@pytest.mark.parametrize(
    ("family", "cells", "expected"),
    [
        (families.ECP5, {"LUT4": 5, "CCU2C": 3, "TRELLIS_DPR16X4": 1, "PFUMX": 9}, 15),
        (families.ICE40_HX, {"SB_LUT4": 5, "SB_CARRY": 3}, 5),
        (families.GW1N, {"LUT1": 1, "LUT4": 2, "ALU": 3, "RAM16SDP4": 1, "MUX2_LUT5": 7}, 10),
        (families.XC7, {"LUT2": 1, "LUT6": 2, "INV": 1, "SRL16E": 1, "RAM64M": 1, "MUXF7": 5}, 9),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_lut_metric_of_each_family(family, cells, expected):
    assert family.count(cells)["luts"] == expected


def test_half_blocks_count_half():
    assert families.XC7.count({"RAMB18E1": 3, "RAMB36E1": 1})["brams"] == 2.5
    assert families.GW2A.count({"MULT9X9": 2, "MULT18X18": 1})["dsps"] == 2


def test_a_device_without_multipliers_fits_no_multiplier():
    hx8k = targets.find("ice40-hx8k")
    counts = {"luts": 7680, "ffs": 0, "brams": 32, "dsps": 0}

    assert hx8k.excess(counts) == []
    assert hx8k.excess({**counts, "dsps": 1, "luts": 7681}) == ["luts 7681 of 7680", "dsps 1 of 0"]
