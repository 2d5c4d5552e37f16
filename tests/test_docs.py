"""The documents: links, the TOML that they show, what they call refused, keys of the manifest."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tercet.flow.builder import build_design
from tercet.flow.design import prepare
from tercet.flow.folding import load_folding
from tercet.flow.plan import Checksum, Plan, Settings, Tmr
from tercet.flow.plan_file import load_plan
from tercet.hw.configure import Fold, circuit_nodes, configure
from tercet.quant import ir
from tercet.quant.errors import InputError

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
OPAQUE = {"plan.default", "plan.layer", "report.plan", "report.folding", "report.estimate"}
BYTE = ir.TensorType(8, False, scale=1.0)


def blocks(page, language):
    """Contents of the fenced blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def section(page, title):
    """The text from a heading to the next one of the same depth."""
    text = (ROOT / "docs" / page).read_text()
    depth = title.split(" ")[0]
    return text.split(f"\n{title}\n")[1].split(f"\n{depth} ")[0]


def anchors(page):
    """Anchors of a page's headings, as they are made on the web."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def conv(name, source, channels, inputs):
    rng = np.random.default_rng(channels)
    weight = rng.integers(-7, 8, (channels, 3, 3, inputs))
    return ir.Conv2d(
        name=name,
        inputs=(source,),
        weight=weight,
        bias=np.zeros(channels, int),
        weight_bits=4,
        requantize=_half(),
        padding=(1, 1, 1, 1),
    )


def dense(name, source, outputs, inputs, requantize=None):
    weight = np.random.default_rng(outputs).integers(-7, 8, (outputs, inputs))
    return ir.Dense(
        name=name,
        inputs=(source,),
        weight=weight,
        bias=np.zeros(outputs, int),
        weight_bits=4,
        requantize=requantize,
    )


def _graph(name, shape, nodes):
    return ir.Graph(
        name=name, input_name="x", input_shape=shape, input_type=BYTE, nodes=nodes, output="fc"
    )


def _half():
    """A division by 32 to unsigned bytes."""
    return ir.Requantize(np.array([1]), np.array([5]), BYTE)


@pytest.fixture(scope="module")
def digits_like():
    """The layers of the digits network, untrained: conv1, pool1, conv2, pool2, fc."""
    pool = {"kernel": (2, 2), "stride": (2, 2)}
    nodes = (
        conv("conv1", "x", 8, 1),
        ir.MaxPool(name="pool1", inputs=("conv1",), **pool),
        conv("conv2", "pool1", 16, 8),
        ir.MaxPool(name="pool2", inputs=("conv2",), **pool),
        ir.Flatten(name="flat", inputs=("pool2",)),
        dense("fc", "flat", 10, 64),
    )
    return _graph("digits", (8, 8, 1), nodes)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Manifest and report of a tiny build with a checksum and a voter."""
    nodes = (dense("hidden", "x", 4, 4, _half()), dense("fc", "hidden", 3, 4))
    graph = _graph("tiny", (4,), nodes)
    plan = Plan(Settings(Checksum(3)), {"hidden": Settings(tmr=Tmr((1,)))})
    folding = {"hidden": Fold(2, 2), "fc": Fold(1, 2)}
    folder = tmp_path_factory.mktemp("docs") / "build"
    build_design(prepare(graph, folding, plan), folder)
    return {
        name: json.loads((folder / f"{name}.json").read_text()) for name in ("manifest", "report")
    }


def keys(value, path, names):
    """Dotted keys down to what is no table; `[]` for entries, NAME for layers of `names`."""
    if path in OPAQUE:
        return {path}
    if isinstance(value, dict):
        inner = {
            key: "NAME" if path in ("folding", "protection") and key in names else key
            for key in value
        }
        parts = (keys(value[k], f"{path}.{n}".strip("."), names) for k, n in inner.items())
        return set().union(*parts)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return set().union(*(keys(entry, f"{path}[]", names) for entry in value))
    return {path}


def documented(title):
    """First cells of the tables of a section of docs/manifest.md."""
    text = section("manifest.md", title)
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_anchors_resolve(page):
    for path, anchor in LINK.findall(page.read_text()):
        if ":" not in path:
            target = page.parent / path if path else page
            assert target.exists(), path
            assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


@pytest.mark.parametrize("text", blocks(ROOT / "docs" / "hardening.md", "toml"))
def test_plans_of_the_documents_load(text, tmp_path, digits_like):
    path = tmp_path / "plan.toml"
    path.write_text(text)
    plan = load_plan(path)
    names = {node.name for node in circuit_nodes(digits_like)}

    assert plan != Plan()
    assert {*plan.layers} <= names


@pytest.mark.parametrize("text", blocks(ROOT / "docs" / "folding.md", "toml"))
def test_foldings_of_the_documents_load_and_divide(text, tmp_path, digits_like):
    path = tmp_path / "folding.toml"
    path.write_text(text)
    folding = load_folding(path, digits_like)

    layers = {layer.name: layer for layer in configure(digits_like, folding)}
    for name in ("conv1", "conv2", "fc"):
        assert layers[name].pe == folding[name].pe * folding[name].pixels


def test_the_documents_show_a_plan_and_a_folding():
    """Without a block the two tests above would check nothing."""
    assert blocks(ROOT / "docs" / "hardening.md", "toml")
    assert blocks(ROOT / "docs" / "folding.md", "toml")


def refused():
    """The lines that docs/hardening.md calls refused."""
    table = section("hardening.md", "## The plan").split("**Refused")[1]
    return re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)


@pytest.mark.parametrize("line", refused())
def test_what_the_documents_call_refused_is_refused(line, tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text(f"[default]\n{line}\n")

    with pytest.raises(InputError, match=re.escape(line.split(" ")[0])):
        load_plan(path)


def test_keys_of_the_manifest_are_documented(written):
    names = {layer["name"] for layer in written["manifest"]["layers"]}
    found = keys(written["manifest"], "", names)
    streams = {key for key in found if key.startswith(("output.", "taps[]."))}
    described = documented("## manifest.json")

    shared = {key.removeprefix("input.") for key in described if key.startswith("input.")}
    as_input = {f"output.{key}" for key in shared} | {f"taps[].{key}" for key in shared}
    assert found - streams == described - {"taps[].layer"}
    assert streams == as_input | {"taps[].layer"}


def test_keys_of_the_report_are_documented(written):
    found = {key.removeprefix("report.") for key in keys(written["report"], "report", set())}

    assert found == documented("## report.json")


def test_the_excerpt_of_the_manifest_has_its_keys(written):
    (text,) = blocks(ROOT / "docs" / "manifest.md", "json")
    excerpt = json.loads(text)

    assert excerpt.keys() == written["manifest"].keys()
