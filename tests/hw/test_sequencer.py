"""The sequencer: order of steps and passes, marks beside the data, credits of the FIFO."""

import dataclasses

import numpy as np
import pytest
from amaranth.sim import Simulator

from tercet.hw.configure import Fold, configure
from tercet.hw.sequencer import Sequencer
from tercet.hw.site import Site
from tercet.quant import ir

DELAY = 5


def layer(fold, neurons=6, features=8):
    node = ir.Dense(
        name="fc",
        inputs=("x",),
        weight=np.ones((neurons, features), int),
        bias=np.zeros(neurons, int),
    )
    graph = ir.Graph("g", "x", (features,), ir.TensorType(4, False), (node,), "fc")
    return configure(graph, {"fc": fold})[0]


@dataclasses.dataclass
class Record:
    """What the sequencer showed in one cycle."""

    issue: int
    pass_: int
    step: int
    address: int
    start: int
    advance: int
    valid: int
    first: int
    group: int
    done: tuple[int, ...]
    busy: int


def run(config, cycles, available, *, pop=0.0, seed=0):
    """Records of `cycles` cycles; `available` in a cycle, beats leave with probability `pop`.

    A group's beats are in the FIFO from the cycle in which it is done.
    """
    unit = Sequencer(config, DELAY, Site("x"))
    rng, records, waiting = np.random.default_rng(seed), [], 0

    async def testbench(ctx):
        nonlocal waiting
        for cycle in range(cycles):
            ctx.set(unit.available, int(available(cycle)))
            ctx.set(unit.first_window, 1)
            ctx.set(unit.last_window, 1)
            done = tuple(ctx.get(signal) for signal in unit.done.values())
            waiting += config.beats * done[0]
            popped = waiting > 0 and rng.random() < pop
            ctx.set(unit.popped, int(popped))
            ctx.set(unit.idle, int(not ctx.get(unit.busy) and waiting == 0))
            waiting -= popped
            names = ("issue", "pass_", "step", "address", "start", "advance")
            late = ("valid", "first", "group")
            values = {name: ctx.get(getattr(unit, name)) for name in (*names, *late, "busy")}
            records.append(Record(**values, done=done))
            await ctx.tick()

    sim = Simulator(unit)
    sim.add_clock(1e-8)
    sim.add_testbench(testbench)
    sim.run()
    return records


@pytest.mark.parametrize("fold", [Fold(2, 2), Fold(6, 8), Fold(1, 8), Fold(6, 2)], ids=str)
def test_steps_and_passes_come_in_order_without_a_gap(fold):
    config = layer(fold)
    passes, steps = len(config.window.passes), config.window.steps

    records = run(config, 2 * passes * steps, lambda cycle: True, pop=1.0)

    issued = [(r.pass_, r.step, r.address) for r in records if r.issue]
    order = [(p, s, p * steps + s) for p in range(passes) for s in range(steps)]
    assert issued[: passes * steps] == order
    assert issued[passes * steps :] == order[: len(issued) - passes * steps]
    for r in records:
        assert r.start == (r.pass_ == 0 and r.step == 0)
        assert r.advance == (r.issue and r.address == passes * steps - 1)


def test_marks_reach_the_accumulator_after_the_delay():
    config = layer(Fold(2, 2))
    rng = np.random.default_rng(1)
    ready = rng.random(200) < 0.4

    records = run(config, 200, lambda cycle: ready[cycle], pop=0.9)

    for before, after in zip(records, records[DELAY - 1 :], strict=False):
        assert after.valid == before.issue
        if before.issue:
            assert after.first == (before.step == 0)
            assert after.group == before.pass_


def test_a_group_is_done_one_cycle_after_its_last_sum():
    config = layer(Fold(2, 4))

    records = run(config, 80, lambda cycle: True, pop=1.0)

    last = [c for c, r in enumerate(records) if r.issue and r.step == config.window.steps - 1]
    done = [c for c, r in enumerate(records) if r.done[0]]
    assert done == [c + DELAY for c in last if c + DELAY < len(records)]
    passes = len(config.window.passes)
    for n, cycle in enumerate(done):
        valid, begin, end, err, group = records[cycle].done
        assert (valid, err, group) == (1, 0, n % passes)
        assert (begin, end) == (n % passes == 0, n % passes == passes - 1)


def test_nothing_starts_without_a_window():
    config = layer(Fold(2, 2))

    records = run(config, 60, lambda cycle: cycle < 3, pop=1.0)

    assert sum(r.issue for r in records) == config.window.steps
    assert not records[-1].busy


def test_groups_stop_when_the_fifo_has_no_room_and_go_on():
    config = layer(Fold(6, 2))
    groups = config.fifo_beats // config.beats

    stuck = run(config, 300, lambda cycle: True, pop=0.0)
    slow = run(config, 300, lambda cycle: True, pop=0.3)

    assert sum(r.issue for r in stuck) == groups * config.window.steps
    assert sum(r.issue for r in slow) > 3 * groups


def test_groups_in_flight_keep_a_free_layer_busy():
    for fold in (Fold(2, 2), Fold(6, 8), Fold(6, 1), Fold(3, 8)):
        config = layer(fold)

        records = run(config, 300, lambda cycle: True, pop=1.0)

        assert all(r.issue for r in records)
