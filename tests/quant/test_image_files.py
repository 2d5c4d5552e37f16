"""Image data sets from files: decoding, and one line for every bad file."""

import gzip
import lzma

import numpy as np
import pytest

from tercet.quant import image_files
from tercet.quant.errors import InputError
from tercet.quant.image_files import cifar10, idx_images, scaled


@pytest.fixture
def idx_folder(tmp_path):
    """Empty images of the right sizes; image i of the tests starts with the value i % 7."""
    for kind, count in (("train", 60_000), ("t10k", 10_000)):
        pixels = np.zeros((count, 28, 28), np.uint8)
        pixels[:, 0, 1] = np.arange(count) % 7
        for name, dims, data in (
            ("images-idx3", (count, 28, 28), pixels),
            ("labels-idx1", (count,), (np.arange(count) % 10).astype(np.uint8)),
        ):
            header = bytes([0, 0, 8, len(dims)]) + b"".join(d.to_bytes(4, "big") for d in dims)
            with gzip.open(tmp_path / f"{kind}-{name}-ubyte.gz", "wb", compresslevel=1) as file:
                file.write(header + data.tobytes())
    return tmp_path


def encoded(rgb):
    """[n, h, w, 3] as planes of differences, as the data set is stored."""
    planes = rgb.transpose(3, 0, 1, 2).copy()
    planes[0] -= planes[1]
    planes[2] -= planes[1]
    for axis in (3, 2):
        zero = np.zeros_like(planes.take([0], axis))
        planes = np.diff(planes, axis=axis, prepend=zero)
    return planes.tobytes()


def test_idx_files_become_images(idx_folder):
    data = idx_images(idx_folder)

    assert data.train_x.shape == (60_000, 1, 28, 28)
    assert data.test_x.shape == (10_000, 1, 28, 28)
    assert (data.test_x[:, 0, 0, 1] == np.arange(10_000) % 7).all()
    assert data.test_x.sum() == (np.arange(10_000) % 7).sum()
    assert (data.train_y == np.arange(60_000) % 10).all()


def test_cifar_planes_become_images(tmp_path):
    rng = np.random.default_rng(0)
    for kind, count in (("train", 50_000), ("test1000", 1_000)):
        rgb = np.zeros((count, 32, 32, 3), np.uint8)
        rgb[:5] = rng.integers(0, 256, (5, 32, 32, 3))
        with lzma.open(tmp_path / f"{kind}_images.u8.xz", "wb", preset=0) as file:
            file.write(encoded(rgb))
        np.save(tmp_path / f"{kind}_labels.npy", np.full(count, 3, np.uint8))
    data = cifar10(tmp_path)

    assert data.train_x.shape == (50_000, 3, 32, 32)
    assert (data.test_x == rgb.transpose(0, 3, 1, 2)).all()
    assert data.test_x[:5].std() > 70
    assert (data.test_y == 3).all()


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte.gz: cannot be read: No such"):
        idx_images(tmp_path)
    with pytest.raises(InputError, match=r"train_images.u8.xz: cannot be read: No such"):
        cifar10(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not gzip", "cannot be read: Not a gzipped file"),
        (gzip.compress(b"\0" * 100), "holds fewer than 47040016 bytes"),
        (gzip.compress(b"\0" * (47_040_016 + 50)), "holds more than 47040016 bytes"),
        (gzip.compress(b"\0" * 47_040_016), r"is not an idx file of bytes \(60000, 28, 28\)"),
    ],
    ids=["kind", "short", "long", "header"],
)
def test_wrong_idx_file_is_one_line(tmp_path, content, message):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(content)

    with pytest.raises(InputError, match=f"^train-images-idx3-ubyte.gz: {message}"):
        idx_images(tmp_path)


def test_labels_are_never_unpickled(tmp_path):
    np.save(tmp_path / "y.npy", np.array([{}], dtype=object), allow_pickle=True)

    with pytest.raises(InputError, match=r"y\.npy: cannot be read"):
        image_files._labels(tmp_path / "y.npy", 1)


def test_scaled_by_channel():
    pixels = np.array([0, 255, 51], np.uint8).reshape(1, 3, 1, 1)
    found = scaled(pixels, (0.0, 0.5, 0.2), (1.0, 0.25, 0.5))

    assert found.dtype == np.float32
    np.testing.assert_allclose(found.ravel(), [0.0, 2.0, 0.0], atol=1e-6)
