"""The doctor finds what is there and names the fix for what is not."""

from importlib.metadata import PackageNotFoundError

import pytest

from tercet.flow import doctor
from tercet.quant.errors import InputError
from tercet.sim import toolchain


def by_name(result):
    return {check["name"]: check for check in result["checks"]}


def test_a_whole_installation_is_ok(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    result = doctor.diagnose(tmp_path)

    checks = by_name(result)
    assert result["ok"] is True
    assert checks["verilator"]["detail"].startswith("5.")
    assert checks["cache"]["detail"] == str(tmp_path / "tercet")
    assert all(check["ok"] or check["fix"] for check in result["checks"])


def test_a_missing_extra_is_no_failure_and_names_its_fix(monkeypatch):
    def version(name):
        if name == "torch":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(doctor, "version", version)

    result = doctor.diagnose()

    assert result["ok"] is True
    assert by_name(result)["torch"]["fix"] == "pip install 'tercet[torch]'"


@pytest.mark.parametrize("tool", ["verilator", "compiler", "make"])
def test_a_missing_tool_fails_with_its_fix(monkeypatch, tool):
    def missing():
        raise InputError("no such tool: install it")

    monkeypatch.setattr(toolchain, tool, missing)

    result = doctor.diagnose()

    assert result["ok"] is False
    assert by_name(result)[tool]["detail"] == "no such tool"
    assert by_name(result)[tool]["fix"] == "install it"


def test_a_cache_that_cannot_be_made_fails(tmp_path, monkeypatch):
    (tmp_path / "tercet").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    result = doctor.diagnose()

    assert result["ok"] is False
    assert "XDG_CACHE_HOME" in by_name(result)["cache"]["fix"]
