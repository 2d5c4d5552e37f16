"""JSON round trips, and a stranger's JSON ends in one clear line."""

import copy
import json
import random
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tercet.quant import ir, reference, serialize
from tercet.quant.errors import InputError

INT8 = ir.TensorType(bits=8, signed=True, scale=0.125)


def _table(channels=1):
    return ir.Requantize([3] * channels, [4] * channels, INT8, lo=0, bound=[100])


def _graph():
    weight = np.arange(-27, 27).reshape(2, 3, 3, 3)
    conv = ir.Conv2d(name="conv1", inputs=("x",), weight=weight, bias=[5, -6], requantize=_table())
    join = ir.Concat(name="cat", inputs=("conv1", "conv1"), requantize=(None, _table(2)), out=INT8)
    mean = ir.GlobalAvgPool(name="mean", inputs=("cat",), requantize=_table())
    fc = ir.Dense(name="fc", inputs=("mean",), weight=[[1, 2, 3, 4]] * 3, bias=[0, 1, 2])
    return ir.Graph("net", "x", (4, 4, 3), INT8, (conv, join, mean, fc), "fc")


def _document():
    return json.loads(serialize.to_json(_graph()))


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_round_trip(random_graph, random_input, seed):
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)
    x = random_input(rng, graph, 2)

    again = serialize.from_json(serialize.to_json(graph))

    assert serialize.digest(again) == serialize.digest(graph)
    assert serialize.to_json(again) == serialize.to_json(graph)
    assert np.array_equal(reference.run(again, x), reference.run(graph, x))


def test_the_example_of_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "ir.md").read_text(encoding="utf-8")
    graph = serialize.from_json(text.split("```json")[1].split("```")[0])

    found = reference.execute(graph, np.array([[5, 7], [9, 0]]))

    assert found["fc"].tolist() == [[1, 20], [27, -12]]
    assert found["label"].tolist() == [[1], [0]]


def test_digest_sees_every_weight():
    document = _document()
    document["nodes"][0]["weight"]["values"][7] += 1

    changed = serialize.from_json(json.dumps(document))

    assert serialize.digest(changed) != serialize.digest(_graph())


def test_save_and_load(tmp_path):
    path = tmp_path / "graph.json"

    serialize.save(_graph(), path)

    assert serialize.digest(serialize.load(path)) == serialize.digest(_graph())
    assert [p.name for p in tmp_path.iterdir()] == ["graph.json"]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "graph.json"
    path.write_text("old")
    monkeypatch.setattr(serialize, "to_json", lambda graph: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        serialize.save(_graph(), path)

    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["graph.json"]


def test_names_are_sanitised_everywhere_alike():
    text = serialize.to_json(_graph())
    text = text.replace('"conv1"', '"a.b\\u001b[31m"').replace('"cat"', '"a_b__31m"')
    text = text.replace('"x"', '"input"')

    graph = serialize.from_json(text)

    assert [node.name for node in graph] == ["a_b__31m_2", "a_b__31m", "mean", "fc"]
    assert graph.nodes[0].inputs == ("n_input",)
    assert graph.nodes[1].inputs == ("a_b__31m_2", "a_b__31m_2")
    x = np.ones((1, 4, 4, 3), dtype=int)
    assert np.array_equal(reference.run(graph, x), reference.run(_graph(), x))


def test_a_quarter_million_weights_load_fast():
    rng = np.random.default_rng(0)
    weight = rng.integers(-128, 128, (270, 1000))
    fc = ir.Dense(name="fc", inputs=("x",), weight=weight, bias=[0] * 270)
    text = serialize.to_json(ir.Graph("g", "x", (1000,), INT8, (fc,), "fc"))

    fastest = min(_seconds(text) for _ in range(3))

    assert fastest < 0.3


def _seconds(text):
    begin = time.perf_counter()
    serialize.from_json(text)
    return time.perf_counter() - begin


def _set(*path, to):
    def change(document):
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = to

    return change


def _drop(*path):
    def change(document):
        for key in path[:-1]:
            document = document[key]
        del document[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("version", to=2), "version"),
        (_set("version", to=True), "version"),
        (_set("extra", to=1), "unknown key extra"),
        (_drop("output"), "output is missing"),
        (_set("nodes", to={}), "nodes: must be a list"),
        (_set("nodes", 0, to=3), r"nodes\[0\]: needs a name"),
        (_set("nodes", 0, "name", to=3), r"nodes\[0\]: name: must be a string"),
        (_set("nodes", 0, "name", to="fc"), "fc: this name is used twice"),
        (_set("nodes", 0, "op", to="Evil\n"), r"conv1: unknown operator Evil\\n"),
        (_set("nodes", 0, "op", to=None), "conv1: op"),
        (_drop("nodes", 0, "stride"), "conv1: stride is missing"),
        (_set("nodes", 0, "stride", to=[1, 1.0]), "conv1: stride"),
        (_set("nodes", 0, "stride", to=[1, 1, 1]), "conv1: stride"),
        (_set("nodes", 0, "groups", to=True), "conv1: groups: must be a 64-bit integer"),
        (_set("nodes", 0, "inputs", to=["nobody"]), "conv1: inputs: there is no nobody"),
        (_set("nodes", 0, "inputs", to=["fc"]), "conv1: unknown or later operand"),
        (_set("nodes", 0, "weight", "values", 3, to=1.5), "conv1: weight: values must be integers"),
        (_set("nodes", 0, "weight", "values", 3, to=True), "conv1: weight: values"),
        (_set("nodes", 0, "weight", "values", 3, to=1 << 70), "conv1: weight: values"),
        (_set("nodes", 0, "weight", "values", 3, to=300), "conv1: weight does not fit"),
        (_set("nodes", 0, "weight", "shape", to=[1 << 40, 1 << 40]), "conv1: weight: 54 values"),
        (_set("nodes", 0, "weight", "shape", to=[-2, -27]), "conv1: weight: 54 values"),
        (_set("nodes", 0, "weight", to=None), "conv1: weight: must be an object"),
        (_set("nodes", 0, "weight_bipolar", to=0), "conv1: weight_bipolar"),
        (_set("nodes", 0, "requantize", to=[]), "conv1: requantize is not of a kind"),
        (_set("nodes", 2, "requantize", to=None), "mean: requantize is not of a kind"),
        (_set("nodes", 1, "requantize", to=None), "cat: requantize is not of a kind"),
        (_set("nodes", 0, "requantize", "op", to="Dense"), "conv1: requantize: op"),
        (_set("nodes", 0, "requantize", "m_bits", to=99), "conv1: requantize: m_bits"),
        (_set("nodes", 0, "requantize", "out", "bits", to=1 << 40), "conv1: requantize: out: bits"),
        (_set("nodes", 0, "requantize", "out", "scale", to=-1), "conv1: requantize: out: scale"),
        (_set("nodes", 0, "requantize", "out", "scale", to=10**400), "scale"),
        (_set("nodes", 0, "requantize", "bound_kind", to="x"), "conv1: requantize: bound_kind"),
        (_set("nodes", 0, "padding", to=[1 << 62] * 4), "conv1: padding"),
        (_set("nodes", 3, "bias", "values", to=[0, 0]), "fc: bias: 2 values"),
        (_set("input_shape", to=[1 << 40, 4, 3]), "elements"),
        (_set("input_shape", to=[4, 4]), "input shape"),
        (_set("input_shape", to="4"), "input_shape: must be a list"),
        (_set("input_type", "zero_point", to=400), "input_type: zero_point"),
        (_set("output", to="x"), "output"),
        (_set("nodes", to=[{"name": str(i)} for i in range(5000)]), "5000 nodes"),
    ],
)
def test_refused_in_one_line(change, message):
    document = _document()
    change(document)

    with pytest.raises(InputError, match=message) as caught:
        serialize.from_json(json.dumps(document))

    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("[]", "must be an object"),
        ("null", "must be an object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "-Infinity is no number"),
        ('{"a": 1, "a": 2}', "same key twice"),
        ("9" * 10_000, "is not JSON"),
    ],
)
def test_broken_text_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        serialize.from_json(text)


def test_an_infinite_scale_is_refused():
    text = serialize.to_json(_graph()).replace('"scale":0.125', '"scale":1e999')

    with pytest.raises(InputError, match="scale"):
        serialize.from_json(text)


def test_too_much_text_is_refused_before_parsing(monkeypatch):
    monkeypatch.setattr(serialize, "MAX_BYTES", 1 << 10)
    monkeypatch.setattr(serialize.json, "loads", lambda *a, **k: pytest.fail("parsed"))

    with pytest.raises(InputError, match="more than"):
        serialize.from_json(" " * 1025)


@pytest.mark.parametrize(
    ("data", "message"), [(None, "cannot be read"), (b"\xff\xfe", "not UTF-8"), (b"{}", "missing")]
)
def test_load_names_the_file(tmp_path, data, message):
    path = tmp_path / "net\n.json"
    if data is not None:
        path.write_bytes(data)

    with pytest.raises(InputError, match=message) as caught:
        serialize.load(path)

    assert "net\\n.json" in str(caught.value)
    assert "\n" not in str(caught.value)


_JUNK = [None, True, -1, 0, 2, 63, 1.5, 1 << 63, "", "x", "conv1", [], [0], [1, 2], {}, {"op": 1}]


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_change_loads_or_is_refused(seed):
    """Values anywhere in a good document are replaced by junk; nothing but InputError comes out."""
    chance = random.Random(seed)
    document = _document()
    for _ in range(chance.randint(1, 2)):
        _replace_somewhere(document, chance)

    message, graph = "", None
    try:
        graph = serialize.from_json(json.dumps(document))
    except InputError as error:
        message = str(error)

    assert message.isprintable()
    if graph is not None:
        x = np.zeros((1, *graph.input_shape), dtype=int) + graph.input_type.hi
        assert graph.output in reference.execute(graph, x)


def _replace_somewhere(document, chance):
    spot = document
    while True:
        keys = list(spot) if isinstance(spot, dict) else list(range(len(spot)))
        key = chance.choice(keys)
        inner = spot[key]
        if not isinstance(inner, dict | list) or not inner or chance.random() < 0.15:
            spot[key] = copy.deepcopy(chance.choice(_JUNK))
            return
        spot = inner
