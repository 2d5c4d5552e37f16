"""Genes, encodings with one form each, candidates."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tercet.flow.plan import Plan, Settings
from tercet.flow.search.candidate import NetworkSpec, StageSpec
from tercet.flow.search.space import DataSpec, Gene, SearchSpec, Space, TrainSpec
from tercet.quant.errors import InputError


def space(stages=(1, 3), width=(4, 8), interval=(64, 144)):
    chosen = {"family": ("chain", "residual"), "stages": stages}
    for stage in range(1, max(stages) + 1):
        chosen |= {f"blocks{stage}": (1,), f"width{stage}": width, f"kernel{stage}": (3, 5)}
    chosen |= {"head": ("mean",), "weight_bits": (8,), "act_bits": (8,), "scheme": ("scale",)}
    hardware = {"interval": interval, "multiplier": ("dsp",), "plan": ("none", "parity")}
    genes = [Gene(name, choices, "network") for name, choices in chosen.items()]
    genes += [Gene(name, choices, "hardware") for name, choices in hardware.items()]
    return Space(
        genes=tuple(genes),
        data=DataSpec("digits", 0, (1, 8, 8), 10),
        train=TrainSpec(epochs=1, seed=0),
        target="ecp5-25k",
        plans={"parity": Plan(Settings(control="parity"))},
        objectives=("error", "luts"),
        constraints={"fit": 0.8, "latency_cycles": 900.0},
        search=SearchSpec("nsga2", 4, 8, 0),
    )


def row(of, **chosen):
    """An encoding by choices; genes that are not named take their first."""
    encoding = np.zeros(len(of.genes), dtype=np.int64)
    for name, choice in chosen.items():
        encoding[of.columns[name]] = of.gene(name).choices.index(choice)
    return encoding


def test_size_counts_what_means_something():
    one = 2 * (2 * 2) * 2 * 2  # family, a stage of width and kernel, interval, plan
    three = 2 * (2 * 2) ** 3 * 2 * 2

    assert space().size == one + three


def test_genes_of_stages_that_are_not_there_become_0():
    of = space()
    found = of.canonical(row(of, stages=1, width1=8, width2=8, kernel3=5, interval=144)[None])

    assert found.tolist() == [row(of, stages=1, width1=8, interval=144).tolist()]


def test_genes_of_stages_that_are_there_stay():
    of = space()
    encoding = row(of, stages=3, width1=8, width2=8, kernel3=5)

    assert of.canonical(encoding[None]).tolist() == [encoding.tolist()]


def test_canonical_leaves_its_argument_alone():
    of = space()
    encodings = row(of, stages=1, width3=8)[None]
    before = encodings.copy()
    of.canonical(encodings)

    assert (encodings == before).all()


@pytest.mark.parametrize(
    ("encodings", "message"),
    [
        (np.zeros((2, 3), dtype=np.int64), r"encodings must be \[n, 18\], not \(2, 3\)"),
        (np.full((1, 18), 9), "encodings hold an index that is not a choice of its gene"),
        (np.full((1, 18), -1), "encodings hold an index that is not a choice of its gene"),
    ],
)
def test_refuses_what_is_no_encoding(encodings, message):
    with pytest.raises(ValueError, match=message):
        space().canonical(encodings)


@pytest.mark.parametrize("n", [1, 40, 250, 544])
def test_samples_are_canonical_and_distinct(n):
    of = space()
    found = of.sample(np.random.default_rng(1), n)

    assert found.shape == (n, len(of.genes))
    assert found.dtype == np.int64
    assert (of.canonical(found) == found).all()
    assert len({one.tobytes() for one in found}) == n


def test_samples_follow_from_the_generator():
    of = space()
    first, again, other = (of.sample(np.random.default_rng(seed), 20) for seed in (3, 3, 4))

    assert (first == again).all()
    assert (first != other).any()


def test_shallow_networks_are_drawn_as_often_as_deep_ones():
    of = space(stages=(1, 3), width=tuple(range(1, 33)))
    drawn = of.sample(np.random.default_rng(0), 200)
    deep = drawn[:, of.columns["stages"]].mean()

    assert 0.3 < deep < 0.7  # of all candidates 99.98 % are deep


def test_more_samples_than_candidates_are_refused():
    with pytest.raises(InputError, match="the space has 544 candidates, not 545; add choices"):
        space().sample(np.random.default_rng(0), 545)


def test_decodes_to_a_candidate():
    of = space()
    found = of.decode(row(of, family="residual", stages=1, width1=8, interval=144, plan="parity"))

    assert found.network == NetworkSpec(
        family="residual",
        stages=(StageSpec(blocks=1, width=8, kernel=3),),
        head="mean",
        weight_bits=8,
        act_bits=8,
        scheme="scale",
        input_shape=(1, 8, 8),
        classes=10,
    )
    assert (found.interval, found.multiplier, found.plan_name) == (144, "dsp", "parity")
    assert of.plan(found.plan_name).default.control == "parity"
    assert of.plan("none") == Plan()


def test_a_genome_names_the_choices():
    of = space()

    assert of.genome(row(of, stages=3, width2=8, kernel3=5, interval=144)) == {
        "family": "chain",
        "stages": 3,
        "blocks": [1, 1, 1],
        "width": [4, 8, 4],
        "kernel": [3, 3, 5],
        "head": "mean",
        "weight_bits": 8,
        "act_bits": 8,
        "scheme": "scale",
        "interval": 144,
        "multiplier": "dsp",
        "plan": "none",
    }


def test_a_network_has_one_digest_whatever_its_circuit():
    of = space()
    plain = of.decode(row(of, stages=1, interval=64))
    fast = of.decode(row(of, stages=1, interval=144, width3=8))
    wide = of.decode(row(of, stages=1, width1=8))

    assert plain.network.digest == fast.network.digest
    assert plain.network.digest != wide.network.digest


def test_asks_for_objectives_constraints_and_what_must_fit():
    assert space().asked == ("error", "luts", "ffs", "dsps", "brams", "latency_cycles")


@pytest.mark.parametrize(
    "change",
    [
        {"train": TrainSpec(epochs=2, seed=0)},
        {"target": "ecp5-45k"},
        {"plans": {"parity": Plan(Settings(control="tmr"))}},
        {"objectives": ("error", "ffs")},
        {"constraints": {"fit": 0.7}},
        {"search": SearchSpec("nsga2", 4, 8, 1)},
        {"sources": {"my.py:f": "00"}},
        {"data": DataSpec("digits", 1, (1, 8, 8), 10)},
    ],
)
def test_the_digest_changes_with_what_changes_results(change):
    assert dataclasses.replace(space(), **change).digest != space().digest


@pytest.mark.parametrize(
    "change", [{"search": SearchSpec("nsga2", 4, 80, 0)}, {"folder": Path("elsewhere")}]
)
def test_the_digest_stays_where_a_search_may_go_on(change):
    assert dataclasses.replace(space(), **change).digest == space().digest
