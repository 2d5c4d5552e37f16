"""Draws: uniform, without repetition, from the sites that the model and its filters leave."""

import numpy as np
import pytest

from tercet.quant.errors import InputError
from tercet.sim.faults import PERMANENT, Mode
from tercet.sim.sampling import Complete, FaultModel, draw, population, upsets_per_inference
from tercet.sim.targets import Targets


def sample(fake, count, seed=0, strata=None, **model):
    targets = Targets(fake)
    source = population(FaultModel(**model), targets, fake)
    plan = draw(source, targets, fake, count, seed, strata)
    return plan.take(np.arange(len(plan)))


def events(faults, experiment):
    rows = slice(faults.first[experiment], faults.first[experiment + 1])
    return faults.target[rows], faults.start[rows]


def test_single_upsets_are_different_and_cover_bits_and_cycles_evenly(fake):
    faults = sample(fake, 4800)

    assert len(set(zip(faults.target.tolist(), faults.start.tolist(), strict=True))) == 4800
    assert (faults.mode == Mode.FLIP).all()
    assert set(faults.start.tolist()) == set(range(20, 420))
    bits = np.bincount(faults.target, minlength=24)
    assert (np.abs(bits - 200) < 5 * np.sqrt(200)).all()


def test_a_sample_of_all_faults_is_all_faults(fake):
    faults = sample(fake, 24 * 400)
    everything = Complete(population(FaultModel(), Targets(fake), fake))
    complete = everything.take(np.arange(len(everything)))

    found, wanted = (
        sorted(zip(f.start.tolist(), f.target.tolist(), strict=True)) for f in (faults, complete)
    )
    assert found == wanted
    assert everything.grain == 24
    with pytest.raises(InputError, match="only 9600 different ones"):
        sample(fake, 24 * 400 + 1)


def test_the_seed_decides(fake):
    one, same, other = sample(fake, 50), sample(fake, 50), sample(fake, 50, seed=1)

    assert np.array_equal(one.target, same.target)
    assert not np.array_equal(one.target, other.target)


def test_memory_upsets_strike_memory_bits_of_the_wanted_role(fake):
    assert sample(fake, 400, kind="memory").target.min() == 24
    assert set(sample(fake, 400, kind="memory", roles=("weight",)).target) == set(range(24, 36))
    assert set(sample(fake, 400, kind="memory", roles=("window",)).target) == set(range(36, 46))


def test_filters_restrict_and_name_what_there_is(fake):
    assert set(sample(fake, 400, layers=("b",)).target) == set(range(18, 24))
    assert set(sample(fake, 400, layers=("a",), roles=("control",)).target) == {16, 17}
    with pytest.raises(InputError, match=r"--role fifo: zero sites; .* accumulator, control, none"):
        sample(fake, 10, roles=("fifo",))
    with pytest.raises(InputError, match="zero sites: the design has no configuration bits"):
        sample(fake, 10, kind="config")


def test_neighbours_stay_in_their_lane_and_every_bit_is_an_anchor(fake):
    faults = sample(fake, 3000, kind="mbu", bits=3)
    seen = {tuple(events(faults, i)[0].tolist()) for i in range(3000)}

    assert {run for run in seen if run[0] < 8} == {(i, i + 1, i + 2) for i in range(6)}
    # a.step has no lane: its two bits are struck whole; so is b.window.x.
    assert {run for run in seen if run[0] in (16, 17)} == {(16, 17)}
    assert (23,) in seen
    lanes = [range(8), range(8, 16), range(16, 18), range(18, 23), range(23, 24)]
    assert all(any(set(run) <= set(lane) for lane in lanes) for run in seen)


def test_stuck_ats_hold_for_their_cycles_or_for_ever(fake):
    short, endless = sample(fake, 30, kind="stuck1", cycles=7), sample(fake, 30, kind="stuck0")

    assert (short.mode == Mode.STUCK_AT_1).all()
    assert (short.stop - short.start == 7).all()
    assert (endless.mode == Mode.STUCK_AT_0).all()
    assert (endless.stop == PERMANENT).all()


def test_several_upsets_fall_into_one_inference(fake):
    faults = sample(fake, 300, per_inference=4)

    assert (np.diff(faults.first) == 4).all()
    for i in range(300):
        target, start = events(faults, i)
        assert len({*((start - 20) // 10).tolist()}) == 1
        assert len(set(zip(target.tolist(), start.tolist(), strict=True))) == 4


def test_too_many_upsets_for_an_inference_are_refused(fake):
    with pytest.raises(InputError, match="more upsets in an inference"):
        sample(fake, 3, per_inference=50, layers=("b",), roles=("none",))


@pytest.mark.parametrize("rate", [1e-4, 0.02])
def test_poisson_arrivals_without_the_empty_ones(fake, rate):
    mean = rate * 24 * 10
    number = np.diff(sample(fake, 20_000, rate=rate).first)

    assert number.min() == 1
    # The mean of a Poisson number that is not 0, and its standard deviation (at most `mean` + 1).
    expected = mean / -np.expm1(-mean)
    spread = np.sqrt(max(expected * (1 + mean - expected), 1e-9))
    assert abs(number.mean() - expected) < 5 * spread / np.sqrt(20_000)
    targets = Targets(fake)
    model = FaultModel(rate=rate)
    found = upsets_per_inference(population(model, targets, fake), fake)
    assert found == pytest.approx((mean, np.exp(-mean)))


def test_strata_get_their_share(fake):
    strata = np.repeat([0, 1, 2], [16, 2, 6])
    number = np.bincount(strata[sample(fake, 240, strata=strata).target])

    assert number.tolist() == [160, 20, 60]
    assert np.bincount(strata[sample(fake, 4, strata=strata).target]).min() >= 1
    with pytest.raises(InputError, match="fewer than the 3 strata"):
        sample(fake, 2, strata=strata)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"kind": "gamma"}, "fault must be one of seu, mbu"),
        ({"bits": 3}, "neighbours of fault mbu"),
        ({"kind": "mbu", "bits": 1}, "2 or more"),
        ({"cycles": 3}, "how long a stuck-at holds"),
        ({"per_inference": 2, "rate": 0.1}, "either per-inference or rate"),
        ({"kind": "stuck0", "rate": 0.1}, "for upsets"),
        ({"rate": 2.0}, "rate must lie"),
        ({"per_inference": 0}, "at least 1"),
    ],
)
def test_models_that_cannot_be_are_refused(model, message):
    with pytest.raises(InputError, match=message):
        FaultModel(**model)


def test_the_model_says_what_it_leaves_out():
    assert FaultModel().text.endswith("; memories and configuration not")
    text = FaultModel(kind="memory", roles=("weight",)).text
    assert text == "upset of one memory bit, role weight only; flip-flops and configuration not"
