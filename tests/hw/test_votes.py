# amaranth: UnusedElaboratable=no
"""TMR in space with one and three voters, and in time: results, latency, interval, upsets."""

import numpy as np
import pytest

from tercet.hw.config import Turn
from tercet.hw.configure import Fold, Protection, configure
from tercet.hw.timing import initiation_interval, recurrence
from tercet.quant import ir, reference
from tercet.quant.errors import InputError
from tercet.sim.expected import random_frames

ACT = ir.TensorType(4, False, zero_point=3)
OUT = ir.TensorType(6, False)
RELU = ir.Requantize(np.array([700]), np.array([12]), OUT)
CHANNELS = ir.Requantize(np.arange(300, 900, 100), np.full(6, 12), OUT)


def graph(requantize=CHANNELS, *, conv=False, features=12):
    """One layer of six neurons."""
    rng = np.random.default_rng(11)
    fields = {"name": "fc", "inputs": ("x",), "bias": rng.integers(-60, 60, 6)}
    if conv:
        node = ir.Conv2d(
            weight=rng.integers(-8, 8, (6, 2, 3, 2)), weight_bits=4, padding=(1, 1, 0, 1),
            requantize=requantize, **fields,
        )  # fmt: skip
        return ir.Graph("g", "x", (3, 4, 2), ACT, (node,), "fc")
    weight = rng.integers(-8, 8, (6, features))
    node = ir.Dense(weight=weight, weight_bits=4, requantize=requantize, **fields)
    return ir.Graph("g", "x", (features,), ACT, (node,), "fc")


def frames(net, count):
    return np.random.default_rng(3).integers(0, 16, (count, *net.input_shape))


def temporal(*neurons, **fields):
    return Protection(neurons=neurons, mode="temporal", **fields)


def run(bench, net, fold, guard, **options):
    """The run and its layer, after its output was found equal to the reference's."""
    x = frames(net, options.pop("count", 4))
    layers = configure(net, {"fc": fold}, {"fc": guard})
    found, values = bench.run_network(layers, x, **options)
    assert (values == reference.run(net, x).reshape(len(x), -1)).all()
    return found, layers


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("neurons", [(0,), (4, 5), (1, 2, 3), tuple(range(6))], ids=str)
@pytest.mark.parametrize(
    "fold", [Fold(1, 12), Fold(2, 1), Fold(2, 12), Fold(3, 4), Fold(6, 3), Fold(6, 12)], ids=str
)
def test_repeated_passes_are_bit_exact_and_on_time(bench, fold, neurons, seed):
    found, layers = run(bench, graph(), fold, temporal(*neurons), seed=seed)

    if seed is None:
        timing = recurrence(layers, 4)
        assert tuple(found.last_cycles) == timing.last_beat_cycles
        assert initiation_interval(layers) == timing.initiation_interval


@pytest.mark.parametrize("fold", [Fold(2, 6), Fold(3, 12, "lut"), Fold(2, 2, "dsp2")], ids=str)
@pytest.mark.parametrize("control", ["none", "parity", "tmr"])
def test_a_convolution_repeats_passes_of_every_window(bench, fold, control):
    net = graph(conv=True)
    found, layers = run(bench, net, fold, temporal(0, 1, control=control), count=3)

    assert tuple(found.last_cycles) == recurrence(layers, 3).last_beat_cycles
    run(bench, net, fold, temporal(0, 1, control=control), count=3, seed=2)


@pytest.mark.parametrize("fold", [Fold(2, 1), Fold(3, 4), Fold(6, 12)], ids=str)
@pytest.mark.parametrize("modulus", [3, 255, "exact"])
def test_a_checksum_counts_every_turn(bench, fold, modulus):
    """No flag without an upset, and beats on time; with stalls too."""
    guard = temporal(2, 3, modulus=modulus, control="parity")
    found, layers = run(bench, graph(), fold, guard)

    assert tuple(found.last_cycles) == recurrence(layers, 4).last_beat_cycles
    run(bench, graph(), fold, guard, seed=5)


def test_pixels_side_by_side_are_repeated_too(bench):
    net = graph(conv=True)

    _, layers = run(bench, net, Fold(6, 12, pixels=2), temporal(0, 4), seed=4)

    assert layers[0].voted == (0, 4, 6, 10)


def test_weights_in_block_ram_are_read_again(bench):
    _, layers = run(bench, graph(features=24), Fold(3, 4, weights="block"), temporal(5), seed=2)

    assert layers[0].block_weights


def test_the_cost_in_cycles_is_two_turns_for_each_repeated_pass():
    net = graph(conv=True)

    plain, once, all_ = (
        configure(net, {"fc": Fold(2, 4)}, {"fc": temporal(*neurons)})[0]
        for neurons in ((), (2, 3), range(6))
    )

    windows, steps = plain.window.windows, plain.steps
    assert plain.cycles_per_frame == 3 * windows * steps
    assert once.cycles_per_frame == plain.cycles_per_frame + 2 * windows * steps
    assert all_.cycles_per_frame == 3 * plain.cycles_per_frame
    assert once.turns == (Turn.PLAIN, Turn.FIRST, Turn.SECOND, Turn.VOTED, Turn.PLAIN)
    assert once.beats_per_frame == plain.beats_per_frame


@pytest.mark.parametrize("voters", [1, 3])
def test_voters_of_replicas_reload_the_majority(bench, voters):
    for seed in (None, 6):
        run(bench, graph(), Fold(2, 3), Protection(neurons=(0,), voters=voters), seed=seed)


def upsets(bench, registers, guard, wanted, count, seed=0):
    """Runs of a dense layer, each with one random upset in the second frame; and the truth."""
    net = graph(None)
    layers = configure(net, {"fc": Fold(2, 3)}, {"fc": guard})
    x = frames(net, 4)
    truth = reference.run(net, x)
    rng, cycles = np.random.default_rng(seed), layers[0].cycles_per_frame
    for _ in range(count):
        registers.clear()

        def draw():
            chosen = [register for register in registers if wanted(register)]
            register = chosen[rng.integers(len(chosen))]
            cycle = int(rng.integers(cycles, 2 * cycles))
            return [bench.Upset(register, int(rng.integers(len(register))), cycle)]

        found, values = bench.run_network(layers, x, upsets=draw)
        assert found.landed == 1
        yield values, truth


def lane(register):
    return register.attrs["role"] in ("product", "accumulator", "weight", "voter")


def in_lane(register):
    """Registers of the lanes themselves: the drain register behind the voter has no lane."""
    return lane(register) and "lane" in register.attrs


def test_an_upset_of_one_turn_is_outvoted(bench, registers):
    for values, truth in upsets(bench, registers, temporal(*range(6)), in_lane, 40):
        assert (values == truth).all()


def test_the_same_upsets_show_where_nothing_votes(bench, registers):
    runs = list(upsets(bench, registers, Protection(), in_lane, 40))

    assert sum((values != truth).any() for values, truth in runs) >= 5


def test_an_upset_of_an_activation_register_spoils_one_turn_only(bench, registers):
    def activation(register):
        return register.attrs["role"] == "activation"

    for values, truth in upsets(bench, registers, temporal(*range(6)), activation, 20):
        assert (values == truth).all()


@pytest.mark.parametrize("voters", [1, 3])
def test_an_upset_of_a_replica_is_outvoted(bench, registers, voters):
    def replica(register):
        return "replica" in register.attrs

    guard = Protection(neurons=tuple(range(6)), voters=voters)
    for values, truth in upsets(bench, registers, guard, replica, 20):
        assert (values == truth).all()


@pytest.mark.parametrize(
    ("fold", "guard", "line"),
    [
        (Fold(6, 12, "shift"), temporal(1), 'multiplier = "shift"'),
        (Fold(2, 3), temporal(1, voters=3), "set voters = 1"),
    ],
)
def test_what_cannot_be_repeated_is_one_line(fold, guard, line):
    with pytest.raises(InputError, match=f"layer fc: .*{line}"):
        configure(graph(RELU), {"fc": fold}, {"fc": guard})


@pytest.mark.parametrize("seed", range(10))
def test_random_networks_vote_in_time_and_through_three_voters(
    bench, random_network, random_dag, seed
):
    """Whole networks: repeated passes before and behind every operator, with and without stalls."""
    rng = np.random.default_rng(seed)
    net, folding, _ = (random_dag if seed % 2 else random_network)(rng)
    protection = {}
    for node in net:
        if isinstance(node, ir.Conv2d | ir.Dense):
            count = int(rng.integers(1, node.out_channels + 1))
            neurons = tuple(sorted(rng.permutation(node.out_channels)[:count].tolist()))
            drawn = {"mode": "temporal"} if rng.random() < 0.7 else {"voters": 3}
            control = str(rng.choice(["none", "parity", "tmr"]))
            protection[node.name] = Protection(neurons=neurons, control=control, **drawn)
    layers = configure(net, folding, protection)
    x = random_frames(net, 3, seed)
    truth = reference.run(net, x).reshape(3, -1)

    steady, values = bench.run_network(layers, x)
    _, stalled = bench.run_network(layers, x, seed=seed)

    assert (values == truth).all()
    assert (stalled == truth).all()
    assert tuple(steady.last_cycles) == recurrence(layers, 3).last_beat_cycles
