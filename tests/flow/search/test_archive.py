"""The archive as a file, and the front of its records."""

import json

import numpy as np
import pytest

from tercet.flow.search.archive import Archive, Record, load_archive
from tercet.flow.search.pareto import front, hypervolume, spread
from tercet.quant.errors import InputError

SPACE = {
    "genes": [{"name": "width", "choices": [4, 8], "group": "network"}],
    "train": {"epochs": 2},
    "objectives": ["error"],
}


def record(number, **outcome):
    return Record(number, 0, (number, 0), {"width": 4}, (), **outcome)


def measured(*values, names=("a", "b")):
    return [
        record(number, objectives=dict(zip(names, row, strict=True)))
        for number, row in enumerate(values)
    ]


def archive():
    records = [
        record(0, objectives={"error": 0.125}),
        record(1, failure="no images"),
        record(2, refused="luts, predicted 9 > 5"),
        record(3, objectives={"error": 0.5}, broken="error 0.5 > 0.2"),
    ]
    return Archive("abc", SPACE, {"random": 1}, {"error": 0.55}, 1, False, records)


def test_what_is_read_is_what_was_written(tmp_path):
    archive().save(tmp_path)
    found = load_archive(tmp_path)

    assert found == archive()
    assert found.to_json() == archive().to_json()
    assert [path.name for path in tmp_path.iterdir()] == ["archive.json"]


def test_a_record_has_one_line_and_only_what_it_has():
    lines = archive().to_json().splitlines()

    assert json.loads(lines[4].rstrip(",")) == {
        "number": 2,
        "generation": 0,
        "encoding": [2, 0],
        "genome": {"width": 4},
        "parents": [],
        "refused": "luts, predicted 9 > 5",
    }


def test_counts_what_was_spent_and_what_is_feasible():
    assert archive().evaluations == 3
    assert [one.number for one in archive().feasible] == [0]


def test_another_space_is_refused_with_what_differs():
    other = {
        **SPACE,
        "genes": [{"name": "width", "choices": [4], "group": "network"}],
        "train": {"epochs": 3},
    }
    found = "DIR: of another space; it differs in genes.width ([4, 8], not [4]), train.epochs "

    with pytest.raises(InputError) as error:
        archive().check_space("def", other, "DIR")

    assert str(error.value).startswith(f"{found}(2, not 3); ")


def test_the_same_space_is_not():
    archive().check_space("abc", SPACE, "DIR")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "cannot be read"),
        ("[]", "not the archive of a search"),
        ('{"schema": 1}', "not the archive of a search"),
        ('{"schema": 7}', "of another version of tercet"),
    ],
)
def test_a_file_that_is_no_archive_is_bad_input(tmp_path, text, says):
    (tmp_path / "archive.json").write_text(text)

    with pytest.raises(InputError, match=rf"archive.json: {says}"):
        load_archive(tmp_path)


def test_a_folder_without_an_archive_is_bad_input(tmp_path):
    with pytest.raises(InputError, match="no such archive; run without --resume"):
        load_archive(tmp_path)


def test_the_front_has_what_nothing_dominates_by_its_first_objective():
    records = measured((3, 1), (1, 3), (2, 2), (3, 3), (2, 2), (4, 1))

    assert [one.number for one in front(records, ("a", "b"))] == [1, 2, 4, 0]


def test_the_hypervolume_is_the_share_of_the_box_to_the_reference_point():
    records = measured((5, 10), (2.5, 20))

    found = hypervolume(records, ("a", "b"), {"a": 10, "b": 40})
    assert found == pytest.approx(0.5 * 0.75 + 0.25 * 0.5)
    assert hypervolume([], ("a", "b"), {"a": 10, "b": 40}) == 0
    assert hypervolume(measured((11, 1)), ("a", "b"), {"a": 10, "b": 40}) == 0


def test_the_spread_begins_with_the_knee_and_the_best_of_each_objective():
    records = measured((0, 10), (1, 2), (5, 1.9), (10, 0), (0.5, 9))

    assert [one.number for one in spread(records, ("a", "b"), 3)] == [1, 0, 3]
    assert [one.number for one in spread(records, ("a", "b"), 4)] == [1, 0, 3, 2]
    assert len(spread(records, ("a", "b"), 9)) == 5


def test_the_front_of_random_points_is_that_of_all_comparisons():
    values = np.random.default_rng(2).integers(0, 6, (60, 3))
    records = measured(*values.tolist(), names=("a", "b", "c"))
    dominated = [
        any((other <= one).all() and (other < one).any() for other in values) for one in values
    ]

    found = {one.number for one in front(records, ("a", "b", "c"))}
    assert found == {number for number, bad in enumerate(dominated) if not bad}
