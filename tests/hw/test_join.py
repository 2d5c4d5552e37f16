# amaranth: UnusedElaboratable=no
"""Joins and forks alone: order, stalls, marks that are lost or come early, flags."""

import numpy as np
import pytest

from tercet.hw.config import INPUT
from tercet.hw.configure import Fold, configure
from tercet.hw.fork import Fork
from tercet.hw.join import AddJoin
from tercet.hw.join_layer import join_layer
from tercet.hw.site import Site
from tercet.hw.skip_fifo import SkipFifo
from tercet.quant import ir, reference

KIND = ir.TensorType(4, True, zero_point=-2)
OUT = ir.TensorType(5, True, zero_point=1)


def one_operand(node, channels=4, kind=KIND):
    return ir.Graph("g", "x", (3, 3, channels), kind, (node,), node.name)


def run(bench, graph, folding, seed=None, frames=3):
    kind = graph.input_type
    rng = np.random.default_rng(0)
    x = rng.integers(kind.lo, kind.hi + 1, (frames, *graph.input_shape))
    found = bench.run_network(configure(graph, folding), x, seed=seed)
    return *found, reference.run(graph, x).reshape(frames, -1)


@pytest.mark.parametrize("pe", [1, 2, 4])
@pytest.mark.parametrize("multipliers", [(1, 1), (3, 5), (0, 4), (6, 10)])
@pytest.mark.parametrize("shift", [0, 1, 3])
def test_a_sum_of_a_stream_with_itself(bench, pe, multipliers, shift):
    node = ir.Add(name="s", inputs=("x", "x"), multipliers=multipliers, shift=shift, out=OUT)

    _, found, wanted = run(bench, one_operand(node), {"s": Fold(pe)}, seed=pe)

    assert (found == wanted).all()


@pytest.mark.parametrize("pe", [1, 2])
def test_operands_of_a_concat_take_turns(bench, pe):
    scale = ir.Requantize(np.array([3, 1, 2, 5]), np.array([1, 0, 1, 2]), KIND)
    cat = ir.Concat(name="c", inputs=("x", "x", "x"), requantize=(None, scale, None), out=KIND)

    _, found, wanted = run(bench, one_operand(cat), {"c": Fold(pe)}, seed=1)

    assert (found == wanted).all()


@pytest.mark.parametrize(("padding", "channels"), [((1, 2, 0, 1), (0, 0)), ((0,) * 4, (2, 4))])
def test_a_border_holds_the_zero_point(bench, padding, channels):
    pad = ir.Pad(name="p", inputs=("x",), padding=padding, channels=channels)

    _, found, wanted = run(bench, one_operand(pad), {"p": Fold(2)}, seed=2)

    assert (found == wanted).all()
    assert (found == -2).any()


def test_a_border_alone_waits_for_its_frame(bench):
    """Nothing leaves before the frame's first word is there: the latency is defined."""
    pad = ir.Pad(name="p", inputs=("x",), padding=(2, 2, 2, 2))
    layers = configure(one_operand(pad), {"p": Fold(4)})

    got = bench.run_network(layers, np.zeros((2, 3, 3, 4), int))[0]

    assert got.last_cycles[0] >= 49


def words(count, frames=2):
    return [list(range(1 + 8 * f, 1 + 8 * f + count)) for f in range(frames)]


def test_a_fifo_keeps_order_under_stalls(bench):
    got = bench.run_stream(SkipFifo(1, 8, 3, Site("f")), words(9, 4), seed=5)

    assert got.data == words(9, 4)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_a_fifo_takes_as_many_words_as_it_is_deep(bench, depth):
    from amaranth.sim import Simulator

    fifo, taken = SkipFifo(1, 8, depth, Site("f")), []

    async def fill(ctx):
        ctx.set(fifo.i.valid, 1)
        for _ in range(3 * depth + 6):
            taken.append(ctx.get(fifo.i.ready))
            await ctx.tick()

    simulator = Simulator(fifo)
    simulator.add_clock(1e-6)
    simulator.add_testbench(fill)
    simulator.run()

    assert sum(taken) == depth


def test_a_fifo_holds_at_least_one_word():
    with pytest.raises(ValueError, match="depth must be >= 1, not 0"):
        SkipFifo(1, 8, 0, Site("f"))


def test_a_fork_has_at_least_two_readers():
    with pytest.raises(ValueError, match="readers must be >= 2, not 1"):
        Fork(1, 8, 1, Site("f"))


def adder():
    """A sum of two streams of four words."""
    node = ir.Add(
        name="s", inputs=("a", "b"), multipliers=(1, 1), shift=0, out=ir.TensorType(6, True)
    )
    kind = ir.TensorType(4, False)
    config = join_layer(node, (1, 1), (2, 2, 1), (kind, kind), node.out, 6, Fold())
    assert config.sources == (INPUT,)  # the caller names them
    return AddJoin(config)


def sums(streams):
    """(value, first, last, err) that leave the adder for such beats of both operands."""
    from amaranth.sim import Simulator

    unit, left = adder(), []

    def feed(port, beats):
        async def drive(ctx):
            for value, first, last, err in beats:
                ctx.set(port.valid, 1)
                ctx.set(port.payload, {"data": value, "first": first, "last": last, "err": err})
                *_, ready = await ctx.tick().sample(port.ready)
                while not ready:
                    *_, ready = await ctx.tick().sample(port.ready)
            ctx.set(port.valid, 0)

        return drive

    async def collect(ctx):
        ctx.set(unit.o.ready, 1)
        for _ in range(120):
            *_, valid, beat = await ctx.tick().sample(unit.o.valid, unit.o.payload)
            if valid:
                left.append((beat.data, beat.first, beat.last, beat.err))

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(feed(unit.i_0, streams[0]), background=True)
    simulator.add_testbench(feed(unit.i_1, streams[1]), background=True)
    simulator.add_testbench(collect)
    simulator.run()
    return left


def frame(*values, err=None):
    last = len(values) - 1
    return [(v, i == 0, i == last, i == err) for i, v in enumerate(values)]


def test_a_lost_word_does_not_shift_the_frames_after_it():
    """The frame that lost a word is wrong or missing; the next two are whole again."""
    later = frame(1, 1, 1, 1) + frame(3, 3, 3, 3)
    lost = frame(1, 1, 1, 1)
    del lost[2]

    left = sums([frame(1, 2, 3, 4) + frame(5, 6, 7, 8) + frame(2, 2, 2, 2), lost + later])

    assert [value for value, *_ in left[-8:]] == [6, 7, 8, 9, 5, 5, 5, 5]
    assert [first for _, first, *_ in left[-8:]] == [1, 0, 0, 0] * 2


def test_words_before_a_frame_are_dropped():
    stray = [(9, False, False, False), (9, False, True, False)]

    left = sums([stray + frame(1, 2, 3, 4), frame(1, 1, 1, 1)])

    assert [value for value, *_ in left] == [2, 3, 4, 5]


def test_a_flag_of_either_operand_stays_for_the_frame():
    left = sums(
        [frame(1, 2, 3, 4) + frame(0, 0, 0, 0), frame(1, 1, 1, 1, err=1) + frame(0, 0, 0, 0)]
    )

    assert [err for *_, err in left] == [0, 1, 1, 1, 0, 0, 0, 0]
