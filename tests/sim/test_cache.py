"""The cache of compiled models: private, atomic, shared by processes."""

import os
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tercet.quant.errors import InputError
from tercet.sim import cache


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def writes(text: str) -> Callable[[Path], None]:
    """A build function that writes `text`."""

    def build(folder: Path) -> None:
        (folder / "file").write_text(text)

    return build


def test_folder_is_private() -> None:
    assert stat.S_IMODE(cache.root().stat().st_mode) == 0o700


def test_open_folder_is_closed() -> None:
    cache.root().chmod(0o755)

    assert stat.S_IMODE(cache.root().stat().st_mode) == 0o700


def test_folder_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cache.root()
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)

    with pytest.raises(InputError, match="not a folder of your own; set XDG_CACHE_HOME"):
        cache.root()


def test_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cache" / "tercet").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(InputError, match="not a folder of your own"):
        cache.root()


def test_relative_home_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))

    assert cache.root() == tmp_path / ".cache" / "tercet"


def test_key_keeps_parts_apart() -> None:
    assert cache.key("ab", "c") != cache.key("a", "bc")
    assert cache.key("a", b"b") == cache.key("a", "b")


def test_entry_is_built_once() -> None:
    first = cache.entry("kind", "name", writes("one"))
    second = cache.entry("kind", "name", writes("two"))

    assert first == second
    assert (second / "file").read_text() == "one"


def test_failed_build_leaves_nothing() -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        cache.entry("kind", "name", build)

    assert [p for p in (cache.root() / "kind").iterdir() if p.is_dir()] == []


def test_builders_at_once_build_once() -> None:
    built = []

    def build(folder: Path) -> None:
        built.append(folder)
        time.sleep(0.05)
        writes("x")(folder)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: cache.entry("kind", "name", build), range(8)))

    assert len(built) == 1
    assert len(set(found)) == 1


def test_long_unused_entries_go() -> None:
    old = cache.entry("kind", "old", writes("x"))
    kept = cache.entry("kind", "kept", writes("x"))
    os.utime(old, (1, 1))
    cache.entry("kind", "new", writes("x"))

    assert not old.exists()
    assert kept.exists()


def test_scratch_is_inside_and_goes() -> None:
    with cache.scratch() as folder:
        (folder / "x").touch()

        assert folder.is_relative_to(cache.root())
    assert not folder.exists()
