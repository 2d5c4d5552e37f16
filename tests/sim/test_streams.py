"""Patterns of idle cycles and stalls, without a simulator."""

import itertools

import numpy as np

from tercet.sim import streams


def test_pause_is_one_gap() -> None:
    assert list(itertools.islice(streams.pause(2, 3), 7)) == [1, 1, 0, 0, 0, 1, 1]


def test_random_bits_repeat_with_their_seed() -> None:
    one, two = (streams.random_bits(np.random.default_rng(5), 0.3) for _ in range(2))
    bits = list(itertools.islice(one, 5000))

    assert bits == list(itertools.islice(two, 5000))
    assert 0.4 < np.mean(bits) < 0.9
