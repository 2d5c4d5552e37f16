# amaranth: UnusedElaboratable=no
"""Whole networks in Amaranth's simulator: equal to reference and torch; taps; flags; reset."""

import dataclasses

import numpy as np
import pytest
from amaranth.back import rtlil
from amaranth.sim import Simulator

from tercet.hw.configure import Fold, Protection, configure
from tercet.hw.top import Top, layer_component
from tercet.quant import execute, ir, reference


@pytest.fixture(scope="module")
def network():
    """Convolution, pool, dense layer, ArgMax: widths that need every kind of converter."""
    rng = np.random.default_rng(4)
    out = ir.TensorType(5, True, zero_point=-3)
    scale = ir.Requantize(rng.integers(900, 2000, 6), rng.integers(12, 15, 6), out)
    nodes = (
        ir.Conv2d(
            name="conv", inputs=("x",), weight=rng.integers(-8, 8, (6, 3, 3, 2)), weight_bits=4,
            bias=rng.integers(-50, 50, 6), padding=(1, 0, 1, 1), requantize=scale,
        ),
        ir.MaxPool(name="pool", inputs=("conv",), kernel=(2, 2), stride=(2, 1)),
        ir.Flatten(name="flat", inputs=("pool",)),
        ir.Dense(
            name="fc", inputs=("flat",), weight=rng.integers(-8, 8, (4, 36)), weight_bits=4,
            bias=rng.integers(-50, 50, 4),
        ),
        ir.ArgMax(name="best", inputs=("fc",)),
    )  # fmt: skip
    return ir.Graph("g", "x", (4, 5, 2), ir.TensorType(4, False, zero_point=6), nodes, "best")


FOLDING = {"conv": Fold(3, 6), "pool": Fold(2), "fc": Fold(2, 3)}
GUARD = Protection(3, (1,), "parity")
PLANS = {
    "plain": {},
    "checksum": {"conv": GUARD, "fc": Protection(15)},
    "everything": dict.fromkeys(("conv", "pool", "fc", "best"), GUARD),
}


def frames(network, count=3):
    kind = network.input_type
    rng = np.random.default_rng(9)
    return rng.integers(kind.lo, kind.hi + 1, (count, *network.input_shape))


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("seed", [None, 1])
def test_the_circuit_is_the_reference_and_the_reference_is_torch(bench, network, plan, seed):
    x = frames(network)
    truth = reference.run(network, x)

    _, found = bench.run_network(configure(network, FOLDING, PLANS[plan]), x, seed=seed)

    assert found.tolist() == truth.tolist() == execute.run(network, x).tolist()


def test_every_prefix_of_the_network_is_the_reference(bench, network):
    """The layers' own outputs, element by element."""
    x = frames(network)
    truth = reference.execute(network, x)
    layers = configure(network, FOLDING, PLANS["checksum"])

    for count in range(1, len(layers) + 1):
        _, found = bench.run_network(layers[:count], x)
        assert (found == truth[layers[count - 1].name].reshape(len(x), -1)).all()


def test_a_reset_in_mid_frame_starts_afresh(bench, network):
    x = frames(network, 2)

    _, found = bench.run_network(configure(network, FOLDING), x, reset_after=57)

    assert (found == reference.run(network, x)).all()


def test_an_upset_that_is_flagged_early_leaves_with_the_output(bench, network, registers):
    """A flip in the first layer's accumulator flags the frame at the output, three layers on."""
    layers = configure(network, FOLDING, {"conv": Protection(7)})
    x = frames(network, 4)

    def upsets():
        found = [r for r in registers if r.name == "acc" and r.attrs["layer"] == "conv"]
        return [bench.Upset(found[0], 3, cycle) for cycle in range(60, 66)]

    run, _ = bench.run_network(layers, x, upsets=upsets)

    assert run.landed == 6
    assert 1 <= sum(run.flagged) <= 2


def test_checksum_and_control_have_no_false_alarm_over_many_frames(bench, network):
    layers = configure(network, FOLDING, PLANS["everything"])

    run, found = bench.run_network(layers, frames(network, 12), seed=7)

    assert len(found) == 12
    assert not any(run.flagged)


def test_taps_show_each_layers_stream(network):
    """Read from the RTLIL: a wire of its own for each field of each layer."""
    layers = configure(network, FOLDING)

    text = rtlil.convert(Top(layers), name="top", emit_src=False)

    for layer in layers:
        for field in ("valid", "ready", "data", "first", "last", "err"):
            width = layer.out_lanes * layer.out_bits if field == "data" else 1
            assert f"wire width {width} \\tap_{layer.name}_{field}\n" in text


def test_every_register_has_a_role_and_its_layer(network, registers):
    layers = configure(network, FOLDING, PLANS["everything"])
    Simulator(Top(layers))

    names = {layer.name for layer in layers}
    assert len(registers) > 100
    for register in registers:
        assert register.attrs["layer"].removeprefix("to_") in names


def test_kinds_of_layers_become_their_components(network):
    units = [layer_component(layer) for layer in configure(network, FOLDING)]
    for unit in units:
        Simulator(unit)

    assert [type(unit).__name__ for unit in units] == ["Linear", "Pool", "Linear", "ArgMax"]


def test_a_network_needs_a_layer():
    with pytest.raises(ValueError, match="layers must not be empty"):
        Top(())


def test_a_network_of_one_layer(bench, network):
    alone = dataclasses.replace(network, nodes=network.nodes[:1], output="conv")
    x = frames(alone)

    run = bench.run_stream(Top(configure(alone, FOLDING)), bench.pack(x, 2, 4))

    assert len(run.data) == 3
