"""Shares that settings leave, from counts."""

import pytest

from tercet.flow.harden.coverage import SCOPE, Coverage, settings
from tercet.hw.fold import Protection
from tercet.quant.errors import InputError


def test_a_share_is_that_of_vulnerable_bit_cycles(coverage):
    """TMR has three times the bits: one event in 1000 upsets of 300 bits weighs three."""
    counts = {"plain": {"product": [40, 1000, 100, 10]}}
    counts["tmr=spatial"] = {"product": [4, 1000, 300, 10]}
    found = Coverage({"one": counts}).left("tmr", "spatial", "product")

    assert found == pytest.approx(4.5 / 1001 * 300 / (0.04 * 100))
    assert coverage.left("control", "parity", "control") == pytest.approx(20.5 / 1001 / 0.1)


def test_designs_count_by_their_vulnerable_bit_cycles():
    one = {"plain": {"control": [100, 1000, 10, 10]}, "control=tmr": {"control": [0, 999, 30, 10]}}
    two = {"plain": {"control": [100, 1000, 90, 10]}, "control=tmr": {"control": [0, 999, 270, 10]}}
    without = {"plain": {"control": [500, 1000, 90, 10]}}
    found = Coverage({"one": one, "two": two, "three": without}).left("control", "tmr", "control")

    assert found == pytest.approx(0.5 / 1000 * 300 / (0.1 * 100))


def test_settings_act_in_their_scope_only(coverage):
    assert coverage.left("control", "parity", "product") == 1
    assert coverage.left("checksum", "3", "post") == 1


def test_nothing_counts_as_perfect(coverage):
    for group in SCOPE["tmr"]:
        assert 0 < coverage.left("tmr", "spatial", group) < 0.1


def test_a_setting_without_counts_is_refused(coverage):
    with pytest.raises(InputError, match="stream residue was not measured"):
        coverage.left("stream", "residue", "stream")


def test_a_watchdog_counts_when_every_control_setting_was_measured_with_it():
    cell = {"control": [1, 1000, 10, 10]}
    names = ["plain", "control=parity", "control=none watchdog"]
    part = Coverage({"one": dict.fromkeys(names, cell)})
    whole = Coverage({"one": dict.fromkeys([*names, "control=parity watchdog"], cell)})

    assert part.values("control") == ("parity",)
    assert not part.watched
    assert whole.watched


def test_settings_are_named_as_in_the_table():
    guard = Protection(modulus=7, form="input", neurons=(1,), weights="parity", post="dup")

    assert settings(guard) == {
        "checksum": "7 input", "tmr": "spatial", "weights": "parity", "post": "dup",
    }  # fmt: skip
    assert not settings(Protection())


def test_the_table_that_comes_along_is_whole():
    """Every design has its plain counts, and settings lower what they are there for."""
    table = Coverage.load()
    purpose = {"control": "control", "checksum": "product", "tmr": "product", "weights": "weight"}

    assert set(table.values("control")) == {"parity", "tmr"}
    for design in table.designs.values():
        assert design["plain"]["control"][0] > 100
    for key in ("control", "checksum", "tmr", "weights", "stream", "post"):
        for value in table.values(key):
            assert table.left(key, value, purpose.get(key, key)) < 0.5
    assert 0 < table.added() < 0.01
