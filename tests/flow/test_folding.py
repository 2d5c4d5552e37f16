"""Balanced foldings, foldings from TOML, and errors that name file, layer and key."""

import itertools

import numpy as np
import pytest

from tercet.flow.folding import AUTO_MULTIPLIERS, balance, folding_json, load_folding
from tercet.hw.configure import Fold, configure
from tercet.hw.timing import initiation_interval
from tercet.quant import ir
from tercet.quant.errors import InputError


def multipliers(graph, folding):
    linear = [node.name for node in graph if isinstance(node, ir.Conv2d | ir.Dense)]
    return sum(folding[name].pe * folding[name].simd for name in linear)


def interval(graph, folding):
    return initiation_interval(configure(graph, folding))


@pytest.mark.parametrize("budget", [3, 8, 32, 100, 10_000])
def test_a_balanced_folding_is_within_its_multipliers(small, budget):
    graph = small.graph()
    folding = balance(graph, budget)

    assert multipliers(graph, folding) <= max(budget, 3)
    assert set(folding) == {"conv", "pool", "hidden", "logits"}
    configure(graph, folding)


def test_more_multipliers_are_never_slower(small):
    graph = small.graph()
    intervals = [interval(graph, balance(graph, n)) for n in (3, 6, 12, 24, 48, 96)]

    assert intervals == sorted(intervals, reverse=True)
    assert intervals[0] > intervals[-1]


def test_no_other_folding_within_the_budget_is_faster():
    """Every folding of two small layers, by exhaustion."""
    ones = np.ones
    hidden = ir.Dense(
        name="a", inputs=("x",), weight=ones((4, 6), int), bias=np.zeros(4, int),
        requantize=ir.Requantize(np.array([1]), np.array([2]), ir.TensorType(4, False)),
    )  # fmt: skip
    last = ir.Dense(name="b", inputs=("a",), weight=ones((2, 4), int), bias=np.zeros(2, int))
    graph = ir.Graph("g", "x", (6,), ir.TensorType(3, False), (hidden, last), "b")
    cycles = {"a": 24, "b": 8}
    divisors = {"a": ((1, 2, 4), (1, 2, 3, 6)), "b": ((1, 2), (1, 2, 4))}
    for budget in (2, 5, 9, 20):
        best = min(
            max(24 // (p * s), 8 // (q * t))
            for p, s, q, t in itertools.product(*divisors["a"], *divisors["b"])
            if p * s + q * t <= budget
        )

        found = balance(graph, budget)

        worst = max(cycles[n] // (found[n].pe * found[n].simd) for n in cycles)
        assert worst == best


def test_random_networks_get_foldings_that_fit(random_network):
    for seed in range(30):
        graph, _, _ = random_network(np.random.default_rng(seed))
        folding = balance(graph)

        least = sum(isinstance(node, ir.Conv2d | ir.Dense) for node in graph)
        assert multipliers(graph, folding) <= max(AUTO_MULTIPLIERS, least)
        configure(graph, folding)


@pytest.fixture
def read(tmp_path, small):
    """read(TOML) -> folding of the small network, from a file f.toml."""

    def load(text):
        path = tmp_path / "f.toml"
        path.write_text(text)
        return load_folding(path, small.graph())

    return load


def test_named_layers_are_folded_as_they_say_and_others_balanced(read, small):
    folding = read('[layer.conv]\npe = 3\nsimd = 4\nmultiplier = "lut"\n[layer.logits]\nsimd = 6')

    assert folding["conv"] == Fold(3, 4, "lut")
    assert folding["logits"] == Fold(1, 6)
    assert folding["hidden"] == balance(small.graph())["hidden"]


def test_the_json_of_a_folding_is_its_toml(read):
    found = folding_json({"conv": Fold(3, 4, "lut")})

    assert found == {
        "conv": {"pe": 3, "simd": 4, "multiplier": "lut", "weights": "auto", "pixels": 1}
    }


BAD = {
    "[layer.conv9]\npe = 1": r"f.toml: \[layer.conv9\]: no such layer; the graph has conv, pool",
    "[layers.conv]\npe = 1": r"f.toml: a folding holds tables \[layer.NAME\] only",
    "layer = 3": r"f.toml: a folding holds tables \[layer.NAME\] only",
    "[layer]\nconv = 2": r"\[layer.conv\]: takes pe, simd, multiplier, weights and pixels",
    "[layer.conv]\npes = 2": r"\[layer.conv\]: takes pe, simd, multiplier, weights and pixels",
    "[layer.conv]\npe = 0": r"\[layer.conv\]: pe must be a positive integer, not 0",
    "[layer.conv]\nsimd = 1.5": r"\[layer.conv\]: simd must be a positive integer, not 1.5",
    "[layer.conv]\npixels = 0": r"\[layer.conv\]: pixels must be a positive integer, not 0",
    "[layer.conv]\nweights = 3": r"\[layer.conv\]: weights must be a string, not 3",
    "[layer.conv]\npe = true": r"\[layer.conv\]: pe must be a positive integer, not True",
    "pe": "f.toml: not a TOML file",
}


@pytest.mark.parametrize("text", BAD, ids=lambda text: text.replace("\n", " "))
def test_a_wrong_folding_is_one_line_that_names_the_key(read, text):
    with pytest.raises(InputError, match=BAD[text]) as error:
        read(text)
    assert "\n" not in str(error.value)


def test_a_folding_that_is_not_there(tmp_path, small):
    with pytest.raises(InputError, match=r"none\.toml: no such folding"):
        load_folding(tmp_path / "none.toml", small.graph())


def test_a_folding_that_does_not_divide_names_what_does(read, small):
    folding = read("[layer.hidden]\npe = 4")

    with pytest.raises(InputError, match=r"layer hidden: pe = 4 does not divide 6 .* choose one"):
        configure(small.graph(), folding)
