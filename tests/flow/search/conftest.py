"""A finished search of a tiny space, for the tests of what comes out of it."""

from types import SimpleNamespace

import pytest

from tercet.flow.search.command import search


@pytest.fixture(scope="package")
def tiny(helper, tmp_path_factory):
    """The finished search: `space` (its file), `text`, `out`, `result`."""
    text = helper("flow/search", "tiny").SPACE
    folder = tmp_path_factory.mktemp("tiny")
    space, out = folder / "space.toml", folder / "a search"
    space.write_text(text)
    result = search(space, out, workers=1)
    return SimpleNamespace(space=space, text=text, out=out, result=result)
