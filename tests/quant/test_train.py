"""The trainer: deterministic, and it learns."""

import numpy as np
import pytest
import torch

from tercet.quant.datasets import digits
from tercet.quant.errors import InputError
from tercet.quant.models.digits import digits_net
from tercet.quant.train import accuracy, predict, train


def run(seed, **options):
    data = digits()
    torch.manual_seed(7)
    module = digits_net((4, 6))
    x, y = data.train_x[:300], data.train_y[:300]
    losses = train(module, x, y, epochs=2, seed=seed, **options)
    return losses, predict(module, data.test_x[:20])


def test_same_seed_same_weights():
    first, second, other = run(1), run(1), run(2)

    assert first[0] == second[0]
    assert (first[1] == second[1]).all()
    assert (first[1] != other[1]).any()


def test_loss_falls():
    losses, _ = run(0)

    assert losses[1] < losses[0]


def test_leaves_the_global_generator_and_threads():
    torch.manual_seed(11)
    want, threads = torch.rand(3), torch.get_num_threads()
    module = digits_net((2, 2))
    torch.manual_seed(11)
    train(module, np.zeros((4, 1, 8, 8)), np.arange(4), epochs=1, seed=0)

    assert (torch.rand(3) == want).all()
    assert torch.get_num_threads() == threads
    assert not module.training


def test_shifts_move_by_whole_pixels_and_keep_the_sum_inside():
    seen = []

    class Spy(torch.nn.Linear):
        def forward(self, x):
            seen.append(x.detach().clone())
            return super().forward(x.flatten(1))

    images = np.zeros((64, 1, 8, 8), dtype=np.float32)
    images[:, 0, 3, 4] = 1.0
    train(Spy(64, 2), images, np.zeros(64, dtype=np.int64), epochs=1, seed=0, max_shift=1)
    places = {tuple(int(v) for v in image[0].nonzero()[0]) for image in seen[0]}

    assert (seen[0].sum((1, 2, 3)) == 1.0).all()
    assert places == {(r, c) for r in (2, 3, 4) for c in (3, 4, 5)}


def test_last_batch_of_one_does_not_break_batch_norm():
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    losses = train(
        module,
        np.random.default_rng(0).normal(size=(9, 3)),
        np.zeros(9, int),
        epochs=1,
        seed=0,
        batch_size=4,
    )

    assert np.isfinite(losses).all()


@pytest.mark.parametrize(("images", "labels"), [(0, 0), (3, 2)])
def test_data_must_match(images, labels):
    with pytest.raises(InputError, match="labels"):
        train(digits_net(), np.zeros((images, 1, 8, 8)), np.zeros(labels, int), epochs=1, seed=0)


def test_no_epochs():
    with pytest.raises(ValueError, match="epochs"):
        train(digits_net(), np.zeros((2, 1, 8, 8)), np.zeros(2, int), epochs=0, seed=0)


def test_accuracy_takes_the_first_of_ties():
    scores = np.array([[1, 1], [0, 1], [2, 1]])

    assert accuracy(scores, np.array([0, 1, 1])) == pytest.approx(2 / 3)
    with pytest.raises(InputError, match="one label each"):
        accuracy(scores, np.array([0]))


def test_mirroring_swaps_left_and_right_in_some_images():
    seen = []

    class Spy(torch.nn.Linear):
        def forward(self, x):
            seen.append(x.detach().clone())
            return super().forward(x.flatten(1))

    images = np.zeros((64, 1, 8, 8), dtype=np.float32)
    images[:, 0, 3, 1] = 1.0
    train(Spy(64, 2), images, np.zeros(64, dtype=np.int64), epochs=1, seed=0, mirror=True)
    places = [tuple(int(v) for v in image[0].nonzero()[0]) for image in seen[0]]

    assert set(places) == {(3, 1), (3, 6)}
    assert 16 < places.count((3, 6)) < 48
