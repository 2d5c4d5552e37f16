"""Run a network on any engine: what is written, what it is compared with, bad input."""

import dataclasses

import numpy as np
import pytest

from tercet.flow import cli, runner
from tercet.flow.builder import build_design
from tercet.flow.design import prepare
from tercet.flow.runner import run
from tercet.quant import ir, reference, serialize
from tercet.quant.errors import InputError


@pytest.fixture(scope="module")
def folder(small, tmp_path_factory):
    """graph.json, x.npz with five frames, and a build in `design`."""
    path = tmp_path_factory.mktemp("run")
    serialize.save(small.graph(), path / "graph.json")
    np.savez(path / "x.npz", x=small.frames(5))
    build_design(prepare(small.graph(), small.FOLDING), path / "design")
    return path


@pytest.mark.parametrize("source", ["graph.json", "design"])
@pytest.mark.parametrize("engine", ["reference", "torch"])
def test_logits_and_arg_max_are_written(folder, small, tmp_path, source, engine):
    result = run(folder / source, folder / "x.npz", tmp_path / "y.npz", engine)

    assert result == {"images": 5, "engine": engine, "equal_to_reference": True}
    truth = reference.run(small.graph(), small.frames(5))
    with np.load(tmp_path / "y.npz") as found:
        assert (found["logits"] == truth).all()
        assert (found["argmax"] == truth.argmax(axis=1)).all()
    assert [path.name for path in tmp_path.iterdir()] == ["y.npz"]


@pytest.mark.verilator
def test_the_verilog_gives_the_same_logits(folder, small, tmp_path):
    result = run(folder / "design", folder / "x.npz", tmp_path / "y.npz", "verilator")

    assert result["equal_to_reference"]
    with np.load(tmp_path / "y.npz") as found:
        assert (found["logits"] == reference.run(small.graph(), small.frames(5))).all()


def test_a_graph_that_ends_in_arg_max_gives_its_index(small, tmp_path):
    graph = small.graph()
    best = ir.ArgMax(name="best", inputs=(graph.output,))
    graph = dataclasses.replace(graph, nodes=(*graph.nodes, best), output="best")
    serialize.save(graph, tmp_path / "graph.json")
    np.savez(tmp_path / "x.npz", x=small.frames(4))

    run(tmp_path / "graph.json", tmp_path / "x.npz", tmp_path / "y.npz")

    with np.load(tmp_path / "y.npz") as found:
        assert found["argmax"].tolist() == found["logits"][:, 0].tolist()


def test_an_engine_that_differs_is_a_failed_claim(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner.execute, "run", lambda graph, x: reference.run(graph, x) + 1)
    names = ["--inputs", str(folder / "x.npz"), "-o", str(tmp_path / "y.npz")]

    assert cli.main(["run", str(folder / "graph.json"), *names, "--engine", "torch"]) == 1
    assert "tercet: failed: the engine differs from the reference" in capsys.readouterr().err


def test_a_write_that_fails_leaves_no_file(folder, tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runner.np, "savez_compressed", full)

    with pytest.raises(OSError, match="No space"):
        run(folder / "graph.json", folder / "x.npz", tmp_path / "y.npz")
    assert not list(tmp_path.iterdir())


def test_bad_input_is_one_line(folder, tmp_path):
    good, output = folder / "x.npz", tmp_path / "y.npz"
    cases = [
        ((folder / "graph.json", good, output, "verilator"), "runs a build directory's Verilog"),
        ((folder / "graph.json", good, output, "abacus"), "engine 'abacus' is none of reference"),
        ((folder / "none.json", good, output), r"none\.json: no such file"),
        ((tmp_path, good, output), r"graph\.json: cannot be read"),
        ((folder / "graph.json", folder / "none.npz", output), r"none\.npz: no such file"),
        ((folder / "graph.json", good, tmp_path / "no" / "y.npz"), "its folder does not exist"),
    ]
    for arguments, match in cases:
        with pytest.raises(InputError, match=match) as error:
            run(*arguments)
        assert "\n" not in str(error.value)
    assert not output.exists()
