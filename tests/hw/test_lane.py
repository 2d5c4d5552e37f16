# amaranth: UnusedElaboratable=no
"""One lane: sums of products with its weights, bias, latency, and what it holds when idle."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from tercet.hw.config import tree_levels
from tercet.hw.configure import Fold, configure
from tercet.hw.lane import Lane
from tercet.hw.site import Site
from tercet.quant import ir


def layer(fold, kind=None, features=6, neurons=4, weight_bits=5):
    rng = np.random.default_rng(3)
    limit = 1 << (weight_bits - 1)
    node = ir.Dense(
        name="fc",
        inputs=("x",),
        weight=rng.integers(-limit, limit, (neurons, features)),
        bias=rng.integers(-99, 99, neurons),
        weight_bits=weight_bits,
    )
    graph = ir.Graph("g", "x", (features,), kind or ir.TensorType(4, False), (node,), "fc")
    return configure(graph, {"fc": fold})[0]


def sums(config, index, x, gaps):
    """Accumulator of each pass for steps with `gaps` idle cycles before each one.

    The sequencer's timing: a word's address, its elements a cycle later (two for block RAM), and
    the step's marks when its sum reaches the accumulator.
    """
    passes, _, steps, simd = config.weight.shape
    unit = Lane(config, index, Site("fc", index))
    read = 2 if config.block_weights else 1
    delay = read + 1 + tree_levels(simd)
    count = passes * steps
    times = np.cumsum(np.asarray(gaps) + 1)
    found = {}

    async def testbench(ctx):
        ctx.set(unit.acc_in, ctx.get(unit.acc))
        for cycle in range(int(times[-1]) + delay + 2):
            at = {t: int(i) for i, t in enumerate(times)}
            if cycle in at:
                ctx.set(unit.address, at[cycle])
            if cycle - read in at:
                step = at[cycle - read] % steps
                word = x[step * simd : (step + 1) * simd] & ((1 << config.act_bits) - 1)
                ctx.set(unit.act, sum(int(v) << (i * config.act_bits) for i, v in enumerate(word)))
            arrived = at.get(cycle - delay)
            ctx.set(unit.valid, arrived is not None)
            if arrived is not None:
                ctx.set(unit.first, arrived % steps == 0)
                ctx.set(unit.group, arrived // steps)
            await ctx.tick()
            ctx.set(unit.acc_in, ctx.get(unit.acc))
            if arrived is not None and arrived % steps == steps - 1:
                found[arrived // steps] = ctx.get(unit.acc)

    sim = Simulator(unit)
    sim.add_clock(1e-8)
    sim.add_testbench(testbench)
    sim.run()
    assert len(times) == count
    return [found[p] for p in range(passes)]


def truth(config, index, x):
    passes = config.weight.shape[0]
    return (config.weight[:, index].reshape(passes, -1) @ x + config.bias[:, index]).tolist()


@pytest.mark.parametrize("fold", [Fold(1, 1), Fold(2, 3), Fold(2, 6), Fold(1, 2, "lut")], ids=str)
@pytest.mark.parametrize("kind", [ir.TensorType(4, False), ir.TensorType(4, True)], ids=str)
def test_sums_of_every_pass(fold, kind):
    config = layer(fold, kind)
    x = np.random.default_rng(0).integers(kind.lo, kind.hi + 1, 6)
    steps = config.weight.shape[0] * config.weight.shape[2]

    for index in range(fold.pe):
        assert sums(config, index, x, [0] * steps) == truth(config, index, x)


def test_a_lane_that_waits_keeps_its_sum():
    config = layer(Fold(2, 2))
    x = np.random.default_rng(1).integers(0, 16, 6)
    gaps = np.random.default_rng(2).integers(0, 5, config.weight.shape[0] * 3)

    assert sums(config, 1, x, gaps) == truth(config, 1, x)


def test_weights_in_block_ram_come_a_cycle_later():
    config = layer(Fold(1, 4), features=128, neurons=8, weight_bits=8)
    x = np.random.default_rng(1).integers(0, 16, 128)

    assert config.block_weights
    assert sums(config, 0, x, [0] * 256) == truth(config, 0, x)


def test_a_lane_with_one_word_has_no_weight_register(registers):
    config = layer(Fold(4, 6))
    x = np.arange(6)

    assert sums(config, 2, x, [0]) == truth(config, 2, x)
    assert config.constant_weights
    assert "weight" not in {register.attrs["role"] for register in registers}


@pytest.mark.parametrize("index", [-1, 2])
def test_an_index_outside_the_lanes_is_refused(index):
    with pytest.raises(ValueError, match=rf"index must be 0\.\.1, not {index}"):
        Lane(layer(Fold(2, 2)), index, Site("fc"))
