"""MODEL specifications: every kind of file, and everything that is refused."""

import io
import zipfile

import numpy as np
import pytest
import torch

from tercet.quant import reference, serialize
from tercet.quant.errors import InputError
from tercet.quant.importers.model_file import load_model
from tercet.quant.npz import load_array
from tercet.quant.quantize import QuantConfig

SOURCE = """
import torch
from torch import nn
torch.manual_seed(0)
module = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))

def make():
    return module

def pair():
    return module, torch.zeros(1, 6)

class Model(nn.Sequential):
    def __init__(self):
        super().__init__(*module)

number = 3

def broken():
    raise RuntimeError("no weights\\nhere")
"""


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.npz"
    np.savez(path, x=np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32))
    return path


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(SOURCE)
    return path


@pytest.mark.parametrize("name", ["module", "make", "pair", "Model"])
def test_python_file(source, data, name):
    graph = load_model(f"{source}:{name}", calibration=data)
    expected = load_model(f"{source}:module", calibration=data)

    assert [node.bias.tolist() for node in graph] == [node.bias.tolist() for node in expected]
    assert graph.input_shape == (6,)


def test_config_reaches_the_quantiser(source, data):
    graph = load_model(f"{source}:make", calibration=data, config=QuantConfig(weight_bits=3))

    assert {node.weight_bits for node in graph} == {3}


def test_graph_json(source, data, tmp_path):
    graph = load_model(f"{source}:make", calibration=data)
    serialize.save(graph, tmp_path / "graph.json")
    again = load_model(str(tmp_path / "graph.json"))

    assert serialize.digest(again) == serialize.digest(graph)


@pytest.fixture
def program(tmp_path):
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    path = tmp_path / "model.pt2"
    sizes = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(module, (torch.zeros(3, 6),), dynamic_shapes=sizes, strict=False)
    torch.export.save(exported, path)
    return path


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_exported_program_equals_the_module(program, source, data):
    graph = load_model(str(program), calibration=data, trust_model=True)
    expected = load_model(f"{source}:module", calibration=data)
    x = np.random.default_rng(1).integers(-127, 128, size=(8, 6))

    assert (reference.run(graph, x) == reference.run(expected, x)).all()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_exported_program_is_not_loaded_without_trust(program, data, monkeypatch):
    monkeypatch.setattr(torch.export, "load", lambda *args: pytest.fail("loaded"))

    with pytest.raises(InputError, match=r"model\.pt2: .*can run code.*--trust-model"):
        load_model(str(program), calibration=data)


def test_broken_exported_program(tmp_path, data):
    path = tmp_path / "model.pt2"
    path.write_bytes(b"not a program")

    with pytest.raises(InputError, match=r"model\.pt2: cannot be loaded"):
        load_model(str(path), calibration=data, trust_model=True)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("model.py", "model.py:NAME"),
        ("model.pth", "not a model file"),
        ("model", "not a model file"),
        ("missing.py:make", "no such file"),
        ("missing.json", "no such file"),
        ("missing.onnx", "no such file"),
        ("missing.pt2", "no such file"),
    ],
)
def test_not_a_model(spec, message, tmp_path, data):
    with pytest.raises(InputError, match=message):
        load_model(str(tmp_path / spec), calibration=data, trust_model=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "defines no such name"),
        ("a b", "defines no such name"),
        ("number", "gives a int"),
        ("broken", r"calling it failed: RuntimeError: no weights\\nhere"),
    ],
)
def test_names_in_a_python_file(source, data, name, message):
    with pytest.raises(InputError, match=message) as caught:
        load_model(f"{source}:{name}", calibration=data)

    assert "\n" not in str(caught.value)


def test_python_file_that_does_not_run(tmp_path, data):
    path = tmp_path / "model.py"
    path.write_text("raise ValueError('nope')")

    with pytest.raises(InputError, match=r"model\.py: running it failed: ValueError: nope"):
        load_model(f"{path}:make", calibration=data)


def test_float_model_needs_calibration(source):
    with pytest.raises(InputError, match="--calibration"):
        load_model(f"{source}:make")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.zeros((2, 6))}, "has no array 'x'; it holds: y"),
        ({"x": np.zeros((0, 6))}, "empty"),
        ({"x": np.zeros(6)}, "shape"),
        ({"x": np.zeros((2, 1, 6))}, "shape"),
        ({"x": np.full((2, 6), np.nan)}, "NaN"),
        ({"x": np.array([["a"]])}, "must hold numbers"),
        ({"x": np.array([object()])}, "must hold numbers"),
    ],
)
def test_bad_calibration_arrays(source, tmp_path, arrays, message):
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)

    with pytest.raises(InputError, match=message):
        load_model(f"{source}:make", calibration=path)


def test_calibration_of_another_size_than_the_example(source, tmp_path):
    path = tmp_path / "bad.npz"
    np.savez(path, x=np.zeros((2, 7)))

    with pytest.raises(InputError, match=r"shape \(2, 7\); input .* needs \[n, 6\]"):
        load_model(f"{source}:pair", calibration=path)


def test_array_larger_than_the_limit(data):
    with pytest.raises(InputError, match=r"608 bytes; at most 100"):
        load_array(data, max_bytes=100)


def test_array_header_that_claims_too_much(tmp_path):
    header = io.BytesIO()
    fields = {"descr": "<f8", "fortran_order": False, "shape": (1 << 40, 6)}
    np.lib.format.write_array_header_1_0(header, fields)
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(48))

    with pytest.raises(InputError, match="claims shape"):
        load_array(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", None])
def test_broken_npz(tmp_path, content):
    path = tmp_path / "x.npz"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(InputError, match=r"x\.npz: (not a readable|no such)"):
        load_array(path)
