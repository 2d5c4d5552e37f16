"""The profile of a plain design: from a campaign's table, from the estimate."""

import pytest

from tercet.flow.design import prepare
from tercet.flow.harden.profile import PRIOR, estimated, group, home, measured
from tercet.flow.resilience import LayerResilience, Resilience, RoleResilience
from tercet.quant.errors import ClaimError


@pytest.fixture
def layers(helper):
    small = helper("flow", "small")
    return prepare(small.graph(), small.FOLDING).layers


def row(sites, upsets, avf):
    return {"sites": sites, "experiments": upsets, "avf": avf}


def report(by_layer_role):
    return {
        "initiation_interval": 50.0, "experiments": 1000, "inputs": 32,
        "by_layer_role": by_layer_role,
    }  # fmt: skip


def test_a_cell_is_its_rate_times_bits_times_cycles(layers):
    """Of a single cell the rate of its role is its own."""
    found = measured(report({"conv": {"control": row(40, 200, 0.25)}}), layers)

    assert found.cells["conv", "control"].bits == 40
    assert found.cells["conv", "control"].critical == pytest.approx(0.25 * 40 * 50)
    assert found.total == pytest.approx(500)


def test_converters_and_forks_belong_to_a_layer(layers):
    table = {
        "conv": {"control": row(40, 200, 0.25)},
        "to_pool": {"control": row(4, 20, 0.25)},
        "fork_conv": {"control": row(2, 10, 0.25)},
    }
    found = measured(report(table), layers)

    assert {key: cell.bits for key, cell in found.cells.items()} == {
        ("conv", "control"): 42,
        ("pool", "control"): 4,
    }


def test_a_cell_without_an_event_is_drawn_to_its_role(layers):
    table = {
        "conv": {"product": row(40, 900, 0.1)},
        "hidden": {"product": row(10, 100, 0.0)},
    }
    found = measured(report(table), layers)
    rate = 90 / 1000

    assert found.cells["hidden", "product"].critical == pytest.approx(
        10 * 50 * PRIOR * rate / (100 + PRIOR)
    )


def test_a_campaign_without_a_critical_upset_is_no_profile(layers):
    with pytest.raises(ClaimError, match="no critical upset"):
        measured(report({"conv": {"control": row(40, 200, 0.0)}}), layers)


def test_an_estimate_makes_the_same_kind_of_profile():
    roles = {"control": RoleResilience(40, 500.0, 500.0)}
    one = LayerResilience("conv", "Conv2d", roles)
    found = estimated(Resilience(500.0, 500.0, 40, 50, (one,)))

    assert found.total == 500
    assert found.cells["conv", "control"].bits == 40


def test_sums_behind_no_checksum_are_post(layers):
    kinds = {layer.name: group(layer, "accumulator") for layer in layers}

    assert kinds == {
        "conv": "accumulator", "pool": "post", "hidden": "accumulator", "logits": "accumulator",
    }  # fmt: skip


def test_words_of_the_input_carry_no_code(layers):
    kinds = {layer.name: group(layer, "activation") for layer in layers}

    assert kinds == {"conv": "input", "pool": "stream", "hidden": "stream", "logits": "stream"}


def test_a_layer_named_like_a_converter_is_itself(helper):
    small = helper("flow", "small")
    names = ("conv", "to_conv", "hidden", "logits")
    folding = dict(zip(names, small.FOLDING.values(), strict=True))
    layers = prepare(small.graph(names), folding).layers

    assert home("to_conv", layers) == "to_conv"
