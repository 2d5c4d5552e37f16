"""A design before any file is written: folding, plan and channel order come together."""

import numpy as np
import pytest

from tercet.flow.design import arrange, prepare
from tercet.flow.folding import balance
from tercet.flow.plan import Checksum, Plan, Settings, Tmr
from tercet.hw.configure import Fold, Protection, configure
from tercet.hw.timing import recurrence
from tercet.quant.errors import InputError


def test_chosen_neurons_are_gathered_on_protected_lanes(small):
    plan = Plan(layers={"conv": Settings(tmr=Tmr((4, 1, 5)))})

    design = prepare(small.graph(), {**small.FOLDING, "conv": Fold(2, 3)}, plan)

    conv = design.layers[0]
    assert conv.replicated == (0,)
    order = design.permutation["conv"]
    assert {int(n) for n in order[::2]} == {1, 4, 5}
    assert design.protection["conv"].neurons == (1, 4, 5)


def test_without_gathering_logits_keep_their_lanes(small):
    plan = Plan(layers={"logits": Settings(tmr=Tmr((3,)))})

    design = prepare(small.graph(), small.FOLDING, plan)

    assert design.layers[-1].replicated == (1,)
    assert "logits" not in design.permutation


def test_neurons_in_time_share_passes(small):
    plan = Plan(layers={"conv": Settings(tmr=Tmr((1, 4), mode="temporal"))})

    design = prepare(small.graph(), {**small.FOLDING, "conv": Fold(2, 3)}, plan)

    assert (design.layers[0].repeated, design.layers[0].voted) == ((0,), (0, 1))
    assert {int(n) for n in design.permutation["conv"][:2]} == {1, 4}
    assert design.layers[0].cycles_per_frame == 5 * 12 * design.layers[0].steps


def test_neurons_in_branches_are_gathered(helper):
    """A residual block: both layers' neurons on one lane each, not on two."""
    make = helper("flow", "test_gather_graphs")
    net = make.graph(
        make.conv("a", "x", 8, 4), make.conv("b", "a", 8, 8), make.add("s", "a", "b")
    )  # fmt: skip
    guards = {name: Protection(neurons=(1, 6)) for name in ("a", "b")}
    folding = {name: Fold(2, 2) for name in ("a", "b")} | {"s": Fold(2), "fc": Fold()}

    placed = arrange(net, folding, Plan(), guards)

    assert [layer.replicated for layer in configure(net, folding, guards)[:2]] == [(0, 1)] * 2
    assert [layer.replicated for layer in placed.layers[:2]] == [(0,)] * 2
    assert placed.permutation["a"].tolist() == placed.permutation["s"].tolist()


def test_the_graph_of_a_design_is_in_the_models_order(small):
    graph = small.graph()

    design = prepare(graph, small.FOLDING, Plan(layers={"conv": Settings(tmr=Tmr((4,)))}))

    assert design.graph is graph
    assert design.folding == small.FOLDING


def test_the_default_folding_is_balanced(small):
    graph = small.graph()

    assert prepare(graph).folding == balance(graph)


def test_layers_that_a_folding_leaves_out_get_one_lane(small):
    design = prepare(small.graph(), {"conv": Fold(2, 3)})

    assert design.folding["conv"] == Fold(2, 3)
    assert design.folding["pool"] == design.folding["logits"] == Fold()
    assert set(design.folding) == {"conv", "pool", "hidden", "logits"}


def test_a_folding_of_another_network_is_refused(small):
    with pytest.raises(InputError, match="folding: no layer 'conv9'; the graph has conv, pool"):
        prepare(small.graph(), {"conv9": Fold()})


def test_protection_does_not_change_the_interval(small):
    plain = prepare(small.graph(), small.FOLDING)
    hard = prepare(
        small.graph(), small.FOLDING, Plan(Settings(Checksum(3)), {"conv": Settings(tmr=Tmr((4,)))})
    )

    assert hard.timing().initiation_interval == plain.timing().initiation_interval
    assert hard.timing().latency_cycles >= plain.timing().latency_cycles
    assert plain.timing() == recurrence(plain.layers, 5)


def test_a_share_is_scored_on_the_frames_given(small):
    plan = Plan(Settings(tmr=Tmr((), 0.3)))

    design = prepare(small.graph(), small.FOLDING, plan, small.frames(8))

    assert any(guard.neurons for guard in design.protection.values())
    with pytest.raises(InputError, match="tmr share needs inputs"):
        prepare(small.graph(), small.FOLDING, plan)


def test_random_networks_are_prepared_with_what_their_plan_protects(random_network):
    for seed in range(12):
        graph, folding, protection = random_network(np.random.default_rng(seed))
        chosen = {n: Tmr(guard.neurons) for n, guard in protection.items() if guard.neurons}

        design = prepare(
            graph, folding, Plan(layers={name: Settings(tmr=tmr) for name, tmr in chosen.items()})
        )

        replicated = {c.name for c in design.layers if getattr(c, "replicated", ())}
        assert replicated == set(chosen)
