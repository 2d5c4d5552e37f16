"""The clocked harness computes what the reference computes, or says what went wrong."""

from pathlib import Path

import numpy as np
import pytest

from tercet.quant import reference, serialize
from tercet.quant.errors import ClaimError, InputError
from tercet.sim.clocked import run_frames

pytestmark = pytest.mark.verilator


def test_equals_the_reference(small_dir: Path) -> None:
    graph = serialize.load(small_dir / "graph.json")
    x = np.random.default_rng(4).integers(-128, 128, (500, 4))

    assert np.array_equal(run_frames(small_dir, x), reference.run(graph, x))


def test_no_frames_give_no_frames(small_dir: Path) -> None:
    assert run_frames(small_dir, np.zeros((0, 4), np.int64)).shape == (0, 2)


def test_frames_that_do_not_fit_are_bad_input(small_dir: Path) -> None:
    with pytest.raises(InputError, match="do not fit"):
        run_frames(small_dir, np.full((1, 4), 128))
    with pytest.raises(InputError, match="do not fit"):
        run_frames(small_dir, np.zeros((1, 5), np.int64))


def test_design_that_hangs_fails_its_claim(small_dir: Path) -> None:
    text = (small_dir / "top.v").read_text()
    broken = text.replace("if (i_last) begin busy <= 1;", "if (i_last) begin")
    (small_dir / "top.v").write_text(broken)

    with pytest.raises(ClaimError, match="output frame 0, beat 0: did not come"):
        run_frames(small_dir, np.zeros((1, 4), np.int64))
