"""Images of one's own: what is read, how it is split, what is refused."""

import numpy as np
import pytest

from tercet.flow.search.images import describe, load_images
from tercet.quant.errors import InputError


def write(folder, x=None, labels=None, **more):
    """A file of 90 images, 3 x 5 x 4, three classes of 20, 30 and 40, numbered by their values."""
    if x is None:
        x = np.arange(90 * 60, dtype=np.float64).reshape(90, 3, 5, 4) / (90 * 60)
    if labels is None:
        labels = np.repeat([0, 1, 2], [20, 30, 40])
    path = folder / "own.npz"
    np.savez(path, x=x, labels=labels, **more)
    return path


def test_describes_a_file(tmp_path):
    path = write(tmp_path)
    found = describe(path, 3)

    assert (found.name, found.seed, found.input_shape, found.classes, found.images) == (
        "own.npz",
        3,
        (3, 5, 4),
        3,
        path,
    )
    assert len(found.content) == 64


def test_sets_are_disjoint_and_complete_with_shares_of_every_class(tmp_path):
    path = write(tmp_path)
    found = load_images(describe(path, 0))
    parts = [found.train_x, found.calibration_x, found.select_x, found.test_x]
    joined = np.concatenate(parts)

    assert [len(part) for part in parts] == [57, 6, 9, 18]
    assert np.unique(joined[:, 0, 0, 0]).size == len(joined) == 90
    assert joined.dtype == np.float32
    assert np.bincount(found.test_y).tolist() == [4, 6, 8]
    assert np.bincount(found.train_y).tolist() == [13, 19, 25]


def test_labels_stay_with_their_images(tmp_path):
    found = load_images(describe(write(tmp_path), 0))
    number = np.rint(found.select_x[:, 0, 0, 0] * 90).astype(int)

    assert (np.repeat([0, 1, 2], [20, 30, 40])[number] == found.select_y).all()


def test_the_split_follows_from_the_seed(tmp_path):
    path = write(tmp_path)
    first, again, other = (load_images(describe(path, seed)).test_x for seed in (1, 1, 2))

    assert (first == again).all()
    assert (first != other).any()


def test_digits_are_those_of_the_data_set():
    found = load_images(describe(None, 0))

    assert found.test_x.shape == (360, 1, 8, 8)
    assert found.train_y.shape == (1109,)


def test_a_file_that_changed_is_refused(tmp_path):
    found = describe(write(tmp_path), 0)
    write(tmp_path, np.zeros((90, 3, 5, 4)))
    with pytest.raises(InputError, match=r"^own.npz: changed since the space was read"):
        load_images(found)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"x": np.zeros((90, 5, 4))},
            "array 'x' must be real numbers [n, c, h, w], not float64 (90, 5, 4)",
        ),
        (
            {"x": np.zeros((90, 1, 5, 4), dtype=np.uint8)},
            "array 'x' must be real numbers [n, c, h, w], not uint8 (90, 1, 5, 4)",
        ),
        (
            {"x": np.full((90, 1, 5, 4), 255.0)},
            "array 'x' must lie in 0..1; divide by the largest value",
        ),
        (
            {"x": np.full((90, 1, 5, 4), np.nan)},
            "array 'x' must lie in 0..1; divide by the largest value",
        ),
        (
            {"labels": np.zeros(9, dtype=int)},
            "array 'labels' must be integers [90], not int64 (9,)",
        ),
        ({"labels": np.zeros(90)}, "array 'labels' must be integers [90], not float64 (90,)"),
        ({"labels": np.arange(90) // 30 - 1}, "array 'labels' must count from 0, not -1"),
        (
            {"labels": np.repeat([0, 2], [40, 50])},
            "class 1 has 0 images; give two classes or more, and 10 images of each",
        ),
        (
            {"labels": np.zeros(90, dtype=int)},
            "class 1 has 0 images; give two classes or more, and 10 images of each",
        ),
        (
            {"labels": np.repeat([0, 1 << 40], [40, 50])},
            "class 1 has 0 images; give two classes or more, and 10 images of each",
        ),
    ],
)
def test_bad_files(tmp_path, changed, told):
    with pytest.raises(InputError) as caught:
        describe(write(tmp_path, **changed), 0)

    assert str(caught.value) == f"own.npz: {told}"


def test_missing_arrays_and_files(tmp_path):
    np.savez(tmp_path / "no_labels.npz", x=np.zeros((2, 1, 2, 2)))
    with pytest.raises(InputError, match=r"no_labels.npz: has no array 'labels'; it holds: x"):
        describe(tmp_path / "no_labels.npz", 0)
    with pytest.raises(InputError, match=r"gone.npz: no such file"):
        describe(tmp_path / "gone.npz", 0)
