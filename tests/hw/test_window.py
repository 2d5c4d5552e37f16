# amaranth: UnusedElaboratable=no
"""The window buffer against windows cut by NumPy: every step, pass and border; claims and flags."""

import dataclasses

import numpy as np
import pytest
from amaranth.sim import Simulator

from tercet.hw.configure import Fold, configure
from tercet.hw.site import Site
from tercet.hw.window import WindowBuffer
from tercet.quant import ir

BITS = 5
KIND = ir.TensorType(BITS, False, zero_point=9)


def buffer(shape, fold=None, **fields):
    """The window of a convolution over an image of `shape`."""
    kernel, groups = fields.pop("kernel", (3, 2)), fields.get("groups", 1)
    weight = np.ones((2 * groups, *kernel, shape[2] // groups), int)
    bias = np.zeros(2 * groups, int)
    node = ir.Conv2d(name="c", inputs=("x",), weight=weight, bias=bias, **fields)
    graph = ir.Graph("g", "x", shape, KIND, (node,), "c")
    (layer,) = configure(graph, {"c": fold or Fold()})
    return layer.window, node


def windows(x, node, config):
    """Elements of each window and pass in the order of the steps: [frame][window][pass][...]."""
    top, left, bottom, right = node.padding
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)),
                    constant_values=KIND.zero_point)  # fmt: skip
    (kh, kw), (dh, dw), (sh, sw) = node.kernel, node.dilation, node.stride
    each = x.shape[3] // node.groups
    rows, columns = config.out_size
    cut = []
    for frame in padded:
        for oy in range(rows):
            for ox in range(columns):
                part = frame[oy * sh :, ox * sw :][: kh * dh : dh, : kw * dw : dw][:kh, :kw]
                cut.append([
                    part[..., base * config.word :][..., :each].ravel() for base in config.passes
                ])  # fmt: skip
    return cut


def read(config, x, *, seed=None, flag=None):
    """What the ports gave: [window][pass] elements, with err of the frame and its marks."""
    unit = WindowBuffer(config, Site("c"))
    rng = np.random.default_rng(seed)
    words = x.reshape(len(x), -1, config.word)
    found, marks = [], []

    async def write(ctx):
        for f, frame in enumerate(words):
            for k, word in enumerate(frame):
                while seed is not None and rng.random() < 0.4:
                    ctx.set(unit.i.valid, 0)
                    await ctx.tick()
                ctx.set(unit.i.valid, 1)
                ctx.set(unit.i.payload.data, sum(int(v) << (i * BITS) for i, v in enumerate(word)))
                ctx.set(unit.i.payload.first, k == 0)
                ctx.set(unit.i.payload.last, k == len(frame) - 1)
                ctx.set(unit.i.payload.err, flag == (f, k))
                while not (await ctx.tick().sample(unit.i.ready))[-1]:
                    pass
        ctx.set(unit.i.valid, 0)

    async def request(ctx):
        for _ in range(len(x) * config.windows):
            waited = 0
            while not ctx.get(unit.available) or (seed is not None and rng.random() < 0.3):
                await ctx.tick()
                waited += 1
                assert waited < 2000, "no window"
            marks.append(tuple(ctx.get(s) for s in (unit.first_window, unit.last_window, unit.err)))
            for p in range(len(config.passes)):
                for step in range(config.steps):
                    ctx.set(unit.read, 1)
                    ctx.set(unit.pass_, p)
                    ctx.set(unit.step, step)
                    final = p == len(config.passes) - 1 and step == config.steps - 1
                    ctx.set(unit.advance, final)
                    await ctx.tick()
            ctx.set(unit.read, 0)
            ctx.set(unit.advance, 0)

    async def collect(ctx):
        """Elements two edges behind the request of their step."""
        asked = 0
        while len(found) < len(x) * config.windows * len(config.passes) * config.steps:
            now = (await ctx.tick().sample(unit.read))[-1]
            if asked:
                found.append(ctx.get(unit.act))
            asked = now

    sim = Simulator(unit)
    sim.add_clock(1e-8)
    sim.add_testbench(write, background=True)
    sim.add_testbench(request, background=True)
    sim.add_testbench(collect)
    sim.run()
    count = config.ports * config.word
    values = [[(w >> (i * BITS)) & 31 for i in range(count)] for w in found]
    return np.array(values).reshape(len(x) * config.windows, len(config.passes), -1), marks


SHAPES = [
    ((4, 5, 2), None, {}),
    ((4, 5, 2), Fold(1, 4), {"padding": (2, 1, 0, 1)}),
    ((5, 4, 4), Fold(1, 6), {"groups": 2, "stride": (2, 1)}),
    ((6, 3, 1), Fold(2, 6), {"dilation": (2, 1), "padding": (1, 0, 3, 0)}),
    ((2, 2, 3), Fold(1, 3), {"kernel": (1, 1), "stride": (1, 2)}),
    ((4, 4, 2), Fold(2, 12), {"padding": (1, 1, 1, 1), "stride": (3, 2)}),
]


@pytest.mark.parametrize(("shape", "fold", "fields"), SHAPES)
@pytest.mark.parametrize("seed", [None, 2])
def test_every_window_is_the_one_of_numpy(shape, fold, fields, seed):
    config, node = buffer(shape, fold, **fields)
    x = np.random.default_rng(0).integers(0, 32, (3, *shape))

    found, marks = read(config, x, seed=seed)

    assert found.tolist() == [[p.tolist() for p in w] for w in windows(x, node, config)]
    count = config.windows
    assert [m[0] for m in marks] == [n % count == 0 for n in range(3 * count)]
    assert [m[1] for m in marks] == [n % count == count - 1 for n in range(3 * count)]


@pytest.mark.parametrize("word", [0, 5, 15])
def test_a_flagged_word_flags_the_last_window_of_its_frame(word):
    config, _ = buffer((4, 4, 1), Fold(1, 1))
    x = np.zeros((3, 4, 4, 1), int)

    _, marks = read(config, x, flag=(1, word))

    ends = [m[2] for m in marks if m[1]]
    assert ends == [0, 1, 0]
    assert not any(m[2] for m in marks[: config.windows])


def test_the_buffer_accepts_no_word_that_is_still_needed():
    """With nobody reading it takes as many words as it has, the next frame's first ones too."""
    config, _ = buffer((5, 5, 2), Fold(1, 2))
    unit = WindowBuffer(config, Site("c"))
    accepted = []

    async def testbench(ctx):
        ctx.set(unit.i.valid, 1)
        for cycle in range(4 * config.frame_words):
            ctx.set(unit.i.payload.first, sum(accepted) % config.frame_words == 0)
            accepted.append(ctx.get(unit.i.ready))
            await ctx.tick()
            assert cycle < config.span or ctx.get(unit.available)

    sim = Simulator(unit)
    sim.add_clock(1e-8)
    sim.add_testbench(testbench)
    sim.run()

    assert sum(accepted) == config.depth == 32


def test_geometry_of_a_window():
    config, _ = buffer((6, 5, 4), Fold(1, 2), padding=(1, 0, 1, 1), stride=(2, 3), dilation=(2, 1))

    assert config.word == 2
    assert config.words_per_pixel == 2
    assert config.frame_words == 60
    assert config.extent == (5, 2)
    assert config.out_size == (2, 2)
    assert config.span == (4 * 5 + 2) * 2
    assert config.lead == 5 * 2
    assert config.window_starts.tolist() == [-10, -4, 10, 16]
    assert config.window_needs.tolist() == [34, 40, 54, 60]
    assert config.steps == 3 * 2 * 4 // 2
    assert config.depth & (config.depth - 1) == 0
    assert dataclasses.replace(config, padding=(0, 0, 0, 0)).padded is False


def test_ports_read_side_by_side():
    config, _ = buffer((4, 4, 2), Fold(1, 12))

    assert (config.word, config.ports, config.steps) == (2, 6, 1)
