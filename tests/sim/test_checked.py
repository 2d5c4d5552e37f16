"""The clocked harness compares every beat, and fails on each kind of wrong design."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tercet.quant import serialize
from tercet.quant.errors import ClaimError
from tercet.sim import checked, manifest, runner
from tercet.sim.checked import Stalls
from tercet.sim.checker import Outcome
from tercet.sim.expected import load_frames, pack_streams

pytestmark = pytest.mark.verilator

RANDOM = Stalls(0.4, 0.3, pause_every=500, pause_most=100)


def play(
    directory: Path, stalls: Stalls = RANDOM, frames: slice = slice(None), seed: int = 0
) -> Outcome:
    found = manifest.load(directory)
    graph = serialize.load(directory / "graph.json")
    words = pack_streams(found, graph, load_frames(directory / "vectors.npz", graph))
    for k, stream in enumerate(words):
        (directory / f"stream_{k}.bin").write_bytes(stream.tobytes())
    model = checked.program(found, runner.recipe(found))
    return checked.play(model, found, words, directory, frames, stalls, seed)


def edit(directory: Path, *changes: Sequence[str]) -> None:
    path = directory / "top.v"
    text = path.read_text()
    for old, new in changes:
        assert text.count(old) == 1
        text = text.replace(old, new)
    path.write_text(text)


def test_right_design_passes_at_its_predicted_cycles(small_dir: Path) -> None:
    outcome = play(small_dir, Stalls())
    ends = [end - outcome.starts[0] for end in outcome.output.ends]

    assert outcome.passed, outcome.report()
    assert ends == [23 + 22 * i for i in range(40)]
    assert [checker.beats for checker in outcome.checkers] == [40, 160, 40]


def test_stalls_follow_the_seed(small_dir: Path) -> None:
    outcomes = [play(small_dir, seed=seed) for seed in (1, 1, 2)]
    cycles = [outcome.cycles for outcome in outcomes]

    assert all(outcome.passed for outcome in outcomes), outcomes
    assert cycles[0] == cycles[1] != cycles[2]
    assert cycles[0] > 40 * 22


def test_a_part_of_the_frames_is_played(small_dir: Path) -> None:
    outcome = play(small_dir, frames=slice(5, 9))

    assert outcome.passed, outcome.report()
    assert [checker.beats for checker in outcome.checkers] == [4, 16, 4]


def test_wrong_weight_is_named_with_its_element(small_dir: Path) -> None:
    edit(small_dir, ("4'ha: weight = 6;", "4'ha: weight = 7;"))
    outcome = play(small_dir)

    # Neuron 3 of fc1 stands at position 2 of the stream.
    lines = outcome.report()["report"]
    assert not outcome.passed
    assert outcome.checkers[1].wrong > 0
    assert any(line.startswith("fc1: frame ") and "element [3]: got" in line for line in lines)


def test_tap_that_is_wrong_in_one_beat_is_found(small_dir: Path) -> None:
    # fc2 reads the right word; only the tap shows another one, at frame 0, beat 2.
    edit(
        small_dir,
        (".o_data(tap_fc1_data)", ".o_data(fc1_data)"),
        (".i_data(tap_fc1_data)", ".i_data(fc1_data)"),
        (
            "wire [7:0] tap_fc1_data;",
            """wire [7:0] fc1_data; reg [7:0] number;
            wire [7:0] tap_fc1_data = fc1_data ^ {7'd0, number == 2};
            always @(posedge clk)
              number <= rst ? 0 : number + (tap_fc1_valid & tap_fc1_ready & ~&number);""",
        ),
    )
    outcome = play(small_dir)

    assert [checker.wrong for checker in outcome.checkers] == [0, 1, 0]
    assert outcome.report()["report"][0].startswith("fc1: frame 0, element [3]: got ")


def test_beat_that_is_lost_under_a_stall_is_found(small_dir: Path) -> None:
    edit(small_dir, ("if (done & o_ready) done <= 0;", "if (done) done <= 0;"))

    assert play(small_dir, Stalls()).passed
    assert not play(small_dir).passed


def test_beat_too_many_is_found(small_dir: Path) -> None:
    edit(
        small_dir,
        (
            "if (done & o_ready) done <= 0;",
            "if (done & o_ready) begin done <= again; again <= 0; end",
        ),
        ("if (i_last) done <= 1;", "if (i_last) begin done <= 1; again <= 1; end"),
        ("reg done;", "reg done, again;"),
    )
    outcome = play(small_dir, frames=slice(0, 1))

    assert "output: frame 1, markers: got a beat, not no beat" in outcome.report()["report"]


def test_offer_that_changes_under_a_stall_is_found(small_dir: Path) -> None:
    changed = "assign o_data = {acc_1, acc_0} ^ {31'd0, ~o_ready};"
    edit(small_dir, ("assign o_data = {acc_1, acc_0};", changed))
    outcome = play(small_dir)

    assert outcome.wrong == 0
    assert "output" in outcome.unstable
    assert not outcome.passed
    assert play(small_dir, Stalls()).passed


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ("assign o_err = tap_fc2_err;", "assign o_err = o_data[3];", "err=1"),
        ("assign o_first = tap_fc2_first;", "assign o_first = o_data[3];", "first=0"),
        ("assign o_last = tap_fc2_last;", "assign o_last = o_data[3];", "last=0"),
    ],
)
def test_wrong_marker_is_found(small_dir: Path, old: str, new: str, shown: str) -> None:
    edit(small_dir, (old, new))
    outcome = play(small_dir)

    assert outcome.checkers[0].wrong > 0
    assert shown in outcome.report()["report"][0]


def test_design_that_stops_hangs(small_dir: Path) -> None:
    edit(small_dir, ("if (i_last) begin busy <= 1;", "if (i_last) begin"))
    outcome = play(small_dir)

    assert outcome.hang
    assert "unfinished: output, fc1, fc2" in outcome.report()["report"][-1]


def test_long_stall_delays_and_loses_nothing(small_dir: Path) -> None:
    outcome = play(small_dir, Stalls(stall_from=30, stall_cycles=5_000))

    assert outcome.passed, outcome.report()
    assert 5_000 < outcome.cycles < 5_000 + 41 * 22 + 100


def test_missing_vectors_end_the_model(small_dir: Path) -> None:
    found = manifest.load(small_dir)
    model = checked.program(found, runner.recipe(found))
    words = [np.zeros((1, 1, 1), np.uint8)] * 4

    with pytest.raises(ClaimError, match="the model ended with status 4"):
        checked.play(model, found, words, small_dir / "none", slice(0, 1), Stalls())
