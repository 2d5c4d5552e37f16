"""Quantised ONNX models on the command line: estimate, build and run."""

import json

import numpy as np
import pytest

from tercet.flow.cli import main
from tercet.flow.exactness import statements

pytest.importorskip("onnx")


@pytest.fixture
def model(helper, tmp_path):
    models = helper("quant", "onnx_models")
    maker, output = models.small_qdq()
    softmax = maker.qdq(maker.node("Softmax", output), 1 / 255)
    return maker.save(tmp_path / "m.onnx", softmax)


def test_estimate_states_every_layer_and_the_notes(model, capsys):
    assert main(["estimate", str(model)]) == 0

    text = capsys.readouterr().out
    assert "rounded half to even" in text
    assert all(name in text for name in ("Conv_3", "MaxPool_7", "Gemm_10"))
    assert "note: layer Softmax_" in text


def test_estimate_as_json(model, capsys):
    assert main(["estimate", str(model), "--json"]) == 0

    result = json.loads(capsys.readouterr().out)
    keys = {"layer", "form", "share", "largest", "note", "exact"}
    assert [set(layer) for layer in result["exactness"]] == [keys] * 4
    assert len(result["notes"]) == 1


def test_build_and_run(model, tmp_path, capsys):
    out = tmp_path / "built"
    frames = tmp_path / "x.npz"
    np.savez(frames, x=np.random.default_rng(0).integers(0, 256, (5, 6, 6, 2)))
    assert main(["build", str(model), "-o", str(out), "--explain", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["exactness"]) == 4

    results = []
    for source in (str(model), str(out)):
        path = tmp_path / "y.npz"
        assert main(["run", source, "--inputs", str(frames), "-o", str(path)]) == 0
        results.append(np.load(path)["logits"])
    assert (results[0] == results[1]).all()


def test_bad_file_is_one_line(tmp_path, capsys):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08")

    assert main(["estimate", str(path)]) == 2
    assert capsys.readouterr().err.startswith("tercet: error: m.onnx: truncated")


def test_other_models_state_nothing():
    assert statements("graph.json") == {}
