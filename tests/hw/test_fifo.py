# amaranth: UnusedElaboratable=no
"""The output FIFO: order, commit, verdicts, depth."""

from collections import deque

import numpy as np
import pytest
from amaranth.sim import Simulator

from tercet.hw.fifo import OutputFifo
from tercet.hw.site import Site


def simulate(unit, testbench):
    sim = Simulator(unit)
    sim.add_clock(1e-8)
    sim.add_testbench(testbench)
    sim.run()


def run_plain(depth, seed, cycles=300):
    """Random writes within the depth, random reads; (written, read) numbers."""
    unit = OutputFifo(2, 4, depth, 0, Site("x"))
    rng = np.random.default_rng(seed)
    written, read = [], []

    async def testbench(ctx):
        for _ in range(cycles):
            room = len(written) - len(read) < depth
            write, ready = room and rng.random() < 0.6, rng.random() < 0.5
            number = int(rng.integers(256))
            ctx.set(unit.write, bool(write))
            ctx.set(unit.beat.data, number)
            ctx.set(unit.beat.last, number & 1)
            ctx.set(unit.o.ready, bool(ready))
            assert ctx.get(unit.empty) == (len(written) == len(read))
            if ctx.get(unit.o.valid) and ready:
                payload = ctx.get(unit.o.payload)
                assert payload.last == payload.data & 1
                read.append(payload.data)
            if write:
                written.append(number)
            await ctx.tick()

    simulate(unit, testbench)
    return written, read


@pytest.mark.parametrize("depth", [2, 4, 16])
def test_what_was_written_comes_out_in_order(depth):
    written, read = run_plain(depth, seed=depth)

    assert len(read) > 50
    assert written[: len(read)] == read
    assert len(written) - len(read) <= depth


def test_a_beat_is_out_one_cycle_after_its_write():
    unit = OutputFifo(1, 4, 2, 0, Site("x"))

    async def testbench(ctx):
        ctx.set(unit.write, 1)
        assert not ctx.get(unit.o.valid)
        await ctx.tick()
        ctx.set(unit.write, 0)
        assert ctx.get(unit.o.valid)
        await ctx.tick()
        assert ctx.get(unit.o.valid), "it waits for ready"

    simulate(unit, testbench)


@pytest.mark.parametrize("beats", [1, 2, 3])
@pytest.mark.parametrize("lag", [0, 1, 2, 3])
def test_a_group_appears_with_its_own_verdict_only(beats, lag):
    """Groups without a gap; each is committed `lag` cycles after its last write, some as bad."""
    unit = OutputFifo(1, 8, 16, 16 // beats, Site("x"), lag=lag)
    rng = np.random.default_rng(beats + lag)
    groups = 24
    bad = rng.integers(0, 2, groups)
    events = deque((g, b) for g in range(groups) for b in range(beats))
    commits, seen, free = {}, [], 16

    async def testbench(ctx):
        nonlocal free
        cycle = 0
        while len(seen) < groups * beats and cycle < 1000:
            write = bool(events) and free > 0 and not (events[0][1] == 0 and free < beats)
            if write:
                g, b = events.popleft()
                ctx.set(unit.beat.data, g * beats + b)
                ctx.set(unit.end, b == beats - 1)
                free -= 1
                if b == beats - 1:
                    commits[cycle + lag] = g
            ctx.set(unit.write, write)
            ctx.set(unit.commit, cycle in commits)
            ctx.set(unit.bad, int(bad[commits.get(cycle, 0)]))
            ready = bool(rng.random() < 0.7)
            ctx.set(unit.o.ready, ready)
            if ctx.get(unit.o.valid):
                payload = ctx.get(unit.o.payload)
                committed = [g for at, g in commits.items() if at < cycle]
                assert payload.data // beats in committed, "a beat before its verdict"
                if ready:
                    seen.append((payload.data, payload.err))
                    free += 1
            await ctx.tick()
            cycle += 1

    simulate(unit, testbench)

    assert seen == [(n, bad[n // beats]) for n in range(groups * beats)]


def test_an_err_of_the_beat_itself_stays_beside_a_good_verdict():
    unit = OutputFifo(1, 4, 4, 2, Site("x"))
    seen = []

    async def testbench(ctx):
        for n in range(2):
            ctx.set(unit.write, 1)
            ctx.set(unit.beat.err, n == 0)
            ctx.set(unit.end, 1)
            ctx.set(unit.commit, 1)
            await ctx.tick()
        ctx.set(unit.write, 0)
        ctx.set(unit.commit, 0)
        ctx.set(unit.o.ready, 1)
        for _ in range(2):
            seen.append(ctx.get(unit.o.payload).err)
            await ctx.tick()

    simulate(unit, testbench)

    assert seen == [1, 0]


@pytest.mark.parametrize("depth", [0, 1, 3, 12])
def test_a_depth_that_is_no_power_of_two_is_refused(depth):
    with pytest.raises(ValueError, match=f"depth must be a power of two, not {depth}"):
        OutputFifo(1, 4, depth, 0, Site("x"))
