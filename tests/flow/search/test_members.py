"""Members of the front: what is written builds the circuit that was judged."""

import shlex

import numpy as np
import pytest

from tercet.flow.builder import build_design
from tercet.flow.cli import main
from tercet.flow.plan_file import load_plan
from tercet.flow.search.archive import Record
from tercet.flow.search.evaluate import Evaluator
from tercet.flow.search.members import build_command, stated_plan, write_member
from tercet.flow.search.space_file import load_space


@pytest.fixture(scope="module")
def evaluator(tiny):
    return Evaluator(load_space(tiny.space), tiny.out)


@pytest.fixture(scope="module")
def voted(evaluator):
    """The narrow network, neurons triplicated by their share, results bounded."""
    space = evaluator.space
    encoding = np.zeros(len(space.genes), dtype=np.int64)
    encoding[space.columns["plan"]] = 1
    return Record(99, 0, tuple(encoding.tolist()), space.genome(encoding), objectives={"luts": 1.0})


def test_a_member_builds_the_circuit_that_was_judged(evaluator, voted, tmp_path, capsys):
    """Its neurons were chosen by a share and its bounds by images; the files need neither."""
    folder = tmp_path / "a search"
    place = write_member(evaluator, folder, voted)
    design = evaluator.design(evaluator.space.decode(np.array(voted.encoding)))
    build_design(design, tmp_path / "judged", target=evaluator.space.target)
    command = shlex.split(build_command(folder, 99, evaluator.space.target))

    assert command[0] == "tercet"
    assert main(command[1:]) == 0
    capsys.readouterr()
    built = place / "build" / "top.v"
    assert built.read_bytes() == (tmp_path / "judged" / "top.v").read_bytes()
    assert "voter" in built.read_text()


def test_a_plan_is_stated_without_what_needs_inputs(evaluator, voted, tmp_path):
    design = evaluator.design(evaluator.space.decode(np.array(voted.encoding)))
    place = write_member(evaluator, tmp_path, voted)
    plan = load_plan(place / "plan.toml")
    chosen = {name: settings.tmr.neurons for name, settings in plan.layers.items()}

    assert plan == stated_plan(design)
    assert plan.default.tmr is None
    assert plan.default.bound is None
    assert sum(len(neurons) for neurons in chosen.values()) == sum(
        len(guard.neurons) for guard in design.protection.values()
    )
    assert any(chosen.values())


def test_the_vectors_of_a_member_are_the_test_images(evaluator, voted, tmp_path):
    place = write_member(evaluator, tmp_path, voted)
    with np.load(place / "vectors.npz") as file:
        frames, labels = file["x"], file["labels"]

    assert frames.shape == (360, 8, 8, 1)
    assert labels.tolist() == evaluator.images.test_y.tolist()


def test_the_whole_front_was_written(tiny):
    for point in tiny.result["front"]:
        place = tiny.out / "members" / str(point["number"])
        names = {path.name for path in place.iterdir()} - {"build"}
        assert names == {"README.md", "folding.toml", "graph.json", "plan.toml", "vectors.npz"}
        assert point["build"] in (place / "README.md").read_text()
