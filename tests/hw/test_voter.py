# amaranth: UnusedElaboratable=no
"""The majority voter, and replicas that a voter keeps alike."""

import itertools

import numpy as np
import pytest
from amaranth.sim import Simulator

from tercet.hw.configure import Fold, Protection, configure
from tercet.hw.top import layer_component
from tercet.hw.voter import Voter
from tercet.quant import ir


def test_the_majority_of_every_three_words():
    unit, words = Voter(2), range(4)
    found = []

    async def testbench(ctx):
        for row in itertools.product(words, repeat=3):
            for port, value in zip((unit.a, unit.b, unit.c), row, strict=True):
                ctx.set(port, value)
            found.append(ctx.get(unit.y))

    sim = Simulator(unit)
    sim.add_testbench(testbench)
    sim.run()

    assert found == [a & b | b & c | a & c for a, b, c in itertools.product(words, repeat=3)]


def test_a_width_is_at_least_one():
    with pytest.raises(ValueError, match="width must be >= 1, not 0"):
        Voter(0)


def dense(neurons):
    """A layer of three neurons, `neurons` of them in triplicate, on one lane."""
    rng = np.random.default_rng(0)
    node = ir.Dense(
        name="fc", inputs=("x",), weight=rng.integers(-8, 8, (3, 4)), bias=np.array([5, -9, 2]),
        weight_bits=4,
    )  # fmt: skip
    graph = ir.Graph("g", "x", (4,), ir.TensorType(3, False), (node,), "fc")
    return configure(graph, {"fc": Fold(1, 2)}, {"fc": Protection(None, neurons)})[0]


def replicas(registers):
    """Registers of each replica by name: {name: [r0, r1, r2]}."""
    found = {}
    for register in registers:
        if "replica" in register.attrs:
            found.setdefault(register.name, []).append(register)
    return found


def test_a_neuron_in_triplicate_has_three_of_every_register(registers):
    layer = dense((1,))
    Simulator(layer_component(layer))

    found = replicas(registers)
    assert set(found) == {"weight", "product_0", "product_1", "sum_0_0", "acc"}
    for copies in found.values():
        assert [register.attrs["replica"] for register in copies] == ["0", "1", "2"]
        assert {register.attrs["lane"] for register in copies} == {"0"}


@pytest.mark.parametrize("replica", [0, 1, 2])
def test_a_flipped_accumulator_is_outvoted_and_reloaded(bench, registers, replica):
    """In every cycle and for every bit; stalled cycles included."""
    layer = dense((0,))
    unit = layer_component(layer)
    x = np.random.default_rng(1).integers(0, 8, (8, 4))
    count = {"cycle": 0, "flipped": None}

    def visit(ctx):
        copies = replicas(registers)["acc"]
        values = [ctx.get(copy) for copy in copies]
        if count["flipped"] is not None:
            assert len(set(values)) == 1, "the voted value was not reloaded"
        cycle = count["cycle"] = count["cycle"] + 1
        count["flipped"] = cycle % 2 or None
        if count["flipped"]:
            bits = copies[replica].as_unsigned()
            ctx.set(bits, ctx.get(bits) ^ 1 << cycle // 2 % len(bits))
            assert ctx.get(copies[replica]) != values[replica]

    run = bench.run_stream(unit, bench.pack(x, layer.window.word, 3), visit=visit, seed=2)

    clean, truth = bench.run_network((layer,), x)
    found = bench.elements(run.data, layer.out_lanes, layer.out_bits, signed=True)
    assert (found == truth).all()
    assert count["cycle"] > 2 * layer.acc_bits
    assert not any(clean.flagged)


def test_a_flip_in_one_copy_of_anything_leaves_the_results_alone(bench, registers):
    layer = dense((0, 1, 2))
    x = np.random.default_rng(1).integers(0, 8, (120, 4))
    _, truth = bench.run_network((layer,), x)
    registers.clear()

    def upsets():
        """One bit of one copy every fourth cycle."""
        places = [(r, bit) for group in replicas(registers).values() for r in group
                  for bit in range(len(r))]  # fmt: skip
        return [bench.Upset(r, bit, 20 + 4 * n) for n, (r, bit) in enumerate(places)]

    run, found = bench.run_network((layer,), x, upsets=upsets)

    assert run.landed == sum(len(r) for group in replicas(registers).values() for r in group)
    assert run.landed * 4 + 20 < run.last_cycles[-1]
    assert (found == truth).all()


def test_two_flipped_copies_are_not(bench, registers):
    layer = dense((0, 1, 2))
    x = np.random.default_rng(1).integers(0, 8, (5, 4))
    _, truth = bench.run_network((layer,), x)
    registers.clear()

    def upsets():
        pair = replicas(registers)["acc"][:2]
        return [bench.Upset(r, 2, cycle) for cycle in range(16, 22) for r in pair]

    _, found = bench.run_network((layer,), x, upsets=upsets)

    assert (found != truth).any()
