"""Engines: what they ask for, that they improve, that their state is all of them."""

import json

import numpy as np
import pytest

from tercet.flow.search.engine import engine
from tercet.flow.search.pareto import reference_point
from tercet.flow.search.survival import survive
from tercet.quant.errors import InputError

KINDS = ("nsga2", "nsga3", "random")


class Domain:
    """Ten genes of four choices; the last four mean something where the first is not 0."""

    sizes = np.array([4] * 10)

    def canonical(self, encodings):
        found = np.array(encodings)
        found[:, 6:] *= found[:, :1] > 0
        return found


class Tiny:
    """Six raw encodings, of which five are different."""

    sizes = np.array([2, 3])

    def canonical(self, encodings):
        found = np.array(encodings)
        found[found[:, 0] == 0, 1] //= 2
        return found


def objectives(encodings):
    x = encodings.astype(float)
    return np.stack([x.sum(axis=1), ((3 - x) ** 2).sum(axis=1), 9 + x[:, 0] - x[:, 1]], axis=1)


def searched(kind, generations, seed=0):
    made = engine(kind, Domain(), 16, seed)
    rounds = []
    for _ in range(generations):
        rounds.append(made.ask(16))
        made.tell(rounds[-1], objectives(rounds[-1]))
    return made, np.concatenate(rounds)


@pytest.mark.parametrize("kind", KINDS)
def test_asks_for_canonical_encodings_and_for_none_twice(kind):
    _, asked = searched(kind, 20)

    assert len(asked) == 320
    assert len(np.unique(asked, axis=0)) == 320
    assert (Domain().canonical(asked) == asked).all()


@pytest.mark.parametrize("kind", KINDS)
def test_goes_on_from_its_state_as_if_never_stopped(kind):
    first, asked = searched(kind, 5)
    state = json.loads(json.dumps(first.state()))
    second = engine(kind, Domain(), 16, seed=99)
    second.restore(state, [tuple(row) for row in asked.tolist()])

    for _ in range(3):
        expected, found = first.ask(16), second.ask(16)
        assert (found == expected).all()
        assert second.parents == first.parents
        for one in (first, second):
            one.tell(expected, objectives(expected))


@pytest.mark.parametrize("kind", KINDS)
def test_another_seed_asks_for_others(kind):
    assert (searched(kind, 2)[1] != searched(kind, 2, seed=1)[1]).any()


@pytest.mark.parametrize("kind", ["nsga2", "nsga3"])
def test_finds_what_random_search_does_not(kind):
    """The smallest sum in as many evaluations, 15 away from what is drawn on average."""
    smallest = {one: objectives(searched(one, 25)[1])[:, 0].min() for one in (kind, "random")}

    assert smallest[kind] <= 2 < smallest["random"]


def test_children_have_two_parents_that_were_asked_for():
    made, asked = searched("nsga2", 1)
    made.ask(16)
    known = {tuple(row) for row in asked.tolist()}

    assert len(made.parents) == 16
    assert all(len(pair) == 2 and set(pair) <= known for pair in made.parents)


@pytest.mark.parametrize("kind", KINDS)
def test_a_space_is_exhausted_when_all_was_asked_for(kind):
    made = engine(kind, Tiny(), 4)
    first = made.ask(4)
    made.tell(first, objectives(np.pad(first, ((0, 0), (0, 4)))))
    second = made.ask(4)

    assert len(second) == 1
    assert len(np.unique(np.concatenate([first, second]), axis=0)) == 5
    assert len(made.ask(4)) == 0
    assert len(made.parents) == 0


def test_the_non_dominated_survive():
    values = np.array([[0.0, 4.0], [1.0, 1.0], [4.0, 0.0], [5.0, 5.0], [4.0, 4.0]])
    for kind in ("nsga2", "nsga3"):
        kept, order, _ = survive(kind, values, 3, np.random.default_rng(0), None)
        assert sorted(kept.tolist()) == [0, 1, 2]
        assert len(order) == 3


def test_the_ends_of_a_front_win_tournaments_over_its_middle():
    values = np.array([[0.0, 4.0], [2.0, 2.0], [2.1, 1.9], [4.0, 0.0], [5.0, 5.0]])
    kept, order, _ = survive("nsga2", values, 5, np.random.default_rng(0), None)
    place = dict(zip(kept.tolist(), order.tolist(), strict=True))

    assert place[0] == place[3] == 0
    assert place[0] < place[1] < place[4]


def test_small_objectives_count_as_much_as_large_ones_in_nsga3():
    """pymoo's thresholds are absolute; objectives of 1e-6 would all be alike."""
    rng = np.random.default_rng(5)
    values = rng.random((40, 3))
    scaled = values * [1e-6, 1.0, 1e6]
    ways = [survive("nsga3", v, 12, np.random.default_rng(1), None)[0] for v in (values, scaled)]

    assert ways[0].tolist() == ways[1].tolist()


def test_one_objective_is_enough():
    values = np.arange(9.0)[::-1, None]
    for kind in ("nsga2", "nsga3"):
        kept, _, _ = survive(kind, values, 3, np.random.default_rng(0), None)
        assert 8 in kept


def test_the_reference_point_is_a_tenth_behind_the_worst():
    values = np.array([[1.0, 0.0, -2.0], [3.0, 0.0, -1.0]])

    assert reference_point(values) == pytest.approx([3.3, 1.0, -0.9])


def test_an_unknown_algorithm_is_bad_input():
    with pytest.raises(InputError, match="algorithm 'tabu' is none of nsga2, nsga3, random"):
        engine("tabu", Domain(), 8)
