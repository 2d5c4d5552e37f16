# amaranth: UnusedElaboratable=no
"""Several pixels a cycle: the arithmetic of strips, every operator, random networks, protection."""

import numpy as np
import pytest

from tercet.hw.cmvm import copies, solve
from tercet.hw.configure import Fold, Protection, configure
from tercet.hw.join_config import MergeConfig
from tercet.hw.linear_config import LinearConfig
from tercet.hw.pixels import strip
from tercet.hw.reduce_config import PoolConfig
from tercet.hw.shift_config import ShiftConfig
from tercet.hw.timing import initiation_interval, recurrence
from tercet.hw.window_config import WindowConfig
from tercet.quant import ir, reference
from tercet.quant.errors import InputError
from tercet.sim.expected import random_frames

KIND = ir.TensorType(4, False, zero_point=3)
OUT = ir.TensorType(4, True, zero_point=-2)
SIZE = (4, 8, 2)
"""Rows, pixels of a row and channels of the input."""


def table(rng, channels):
    return ir.Requantize(rng.integers(900, 2000, channels), rng.integers(12, 15, channels), OUT)


def conv(name="c", source="x", *, channels=2, neurons=3, kernel=(3, 3), **fields):
    rng = np.random.default_rng(len(name) + neurons)
    fields = {"padding": (1, 1, 1, 1), "requantize": table(rng, neurons), **fields}
    each = channels // fields.get("groups", 1)
    return ir.Conv2d(
        name=name, inputs=(source,), weight=rng.integers(-8, 8, (neurons, *kernel, each)),
        bias=rng.integers(-20, 20, neurons), weight_bits=4, **fields,
    )  # fmt: skip


def graph(*nodes, size=SIZE, kind=KIND):
    return ir.Graph("g", "x", size, kind, nodes, nodes[-1].name)


def check(bench, network, folding, protection=None):
    """Equal to the reference with and without stalls, in the recurrence's cycles; the circuits."""
    layers = configure(network, folding, protection or {})
    x = random_frames(network, 3, 0)
    truth = reference.run(network, x).reshape(len(x), -1)

    run, found = bench.run_network(layers, x)
    _, stalled = bench.run_network(layers, x, seed=1)

    assert (found == truth).all()
    assert (stalled == truth).all()
    assert tuple(run.last_cycles) == recurrence(layers, 3).last_beat_cycles
    return layers, int(np.diff(run.last_cycles)[-1])


def gathered(window, frames, pad):
    """What each window of a configuration fetches in its only step, [windows, elements]."""
    height, width, word = window.height, window.width, window.word
    words = frames.reshape(height, width, word)
    found = []
    for oy in range(window.out_size[0]):
        for ox in range(window.out_size[1]):
            row = []
            for (kh, kw, _), kept in zip(window.taps[0], window.kept, strict=True):
                y = oy * window.stride[0] - window.padding[0] + kh * window.dilation[0]
                x = ox * window.stride[1] - window.padding[1] + kw * window.dilation[1]
                inside = 0 <= y < height and 0 <= x < width
                row += words[y, x, list(kept)].tolist() if inside else [pad] * len(kept)
            found.append(row)
    return np.array(found)


@pytest.mark.parametrize("seed", range(40))
def test_a_strip_holds_the_windows_of_its_pixels(seed):
    """Any kernel, stride, padding and dilation: element by element what the single windows hold."""
    rng = np.random.default_rng(seed)
    kernel, dilation = (tuple(int(n) for n in rng.integers(1, 4, 2)) for _ in range(2))
    stride, pixels = tuple(int(n) for n in rng.integers(1, 3, 2)), int(rng.integers(2, 5))
    rows, columns = ((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    width, height = pixels * stride[1] * int(rng.integers(1, 4)), rows + int(rng.integers(0, 4))
    border = max(0, columns - stride[1])
    left = int(rng.integers(0, border + 1))
    every = tuple((kh, kw, 0) for kh in range(kernel[0]) for kw in range(kernel[1]))
    bare = WindowConfig(
        height, width, 2, kernel, stride, (0, left, rows // 2, border - left), dilation, word=2,
        lane_bits=8, taps=(every,), passes=(0,), depth=1, pad_value=-1,
    )  # fmt: skip
    frame = np.arange(height * width * 2)
    truth = gathered(bare, frame, -1).reshape(*bare.out_size, -1)

    found = strip(bare, pixels)

    elements = gathered(found.window, frame, -1).reshape(
        bare.out_size[0], -1, found.window.elements
    )
    for pixel, pick in enumerate(found.picks):
        assert (elements[:, :, pick.ravel()] == truth[:, pixel::pixels]).all()
    assert found.window.elements == len({i for pick in found.picks for i in pick.ravel().tolist()})


@pytest.mark.parametrize("pixels", [2, 4, 8])
def test_an_interval_is_as_many_times_shorter(bench, pixels):
    network = graph(conv(), conv("d", "c", channels=3, neurons=2))

    _, one = check(bench, network, {"c": Fold(3, 18), "d": Fold(2, 27)})
    folding = {"c": Fold(3, 18, pixels=pixels), "d": Fold(2, 27, pixels=pixels)}
    layers, many = check(bench, network, folding)

    assert one == 32
    assert many == 32 // pixels == initiation_interval(layers)


LINEAR = {
    "products of constants": (conv(), {}),
    "adders": (conv(), {"multiplier": "lut"}),
    "pairs": (conv(), {"multiplier": "dsp2"}),
    "shift-adds": (conv(), {"multiplier": "shift"}),
    "stride 2": (conv(stride=(2, 2)), {}),
    "stride along the row only": (conv(kernel=(2, 2), stride=(1, 2), padding=(1, 0, 0, 0)), {}),
    "dilation": (conv(kernel=(2, 3), dilation=(2, 2), padding=(1, 2, 1, 2)), {}),
    "a kernel wider than a word": (conv(kernel=(1, 5), padding=(0, 2, 0, 2)), {}),
    "padding on the left only": (conv(kernel=(1, 3), padding=(0, 2, 0, 0)), {}),
    "no padding": (conv(kernel=(3, 5), padding=(0, 0, 0, 0)), {}),
    "a pixel alone": (conv(kernel=(1, 1), padding=(0, 0, 0, 0)), {}),
    "depthwise": (conv(neurons=4, groups=2), {}),
    "depthwise shift-adds": (conv(neurons=2, groups=2), {"multiplier": "shift"}),
}


@pytest.mark.parametrize("case", LINEAR)
def test_a_convolution(bench, case):
    node, fields = LINEAR[case]
    fold = Fold(node.out_channels, node.weight[0].size, pixels=2, **fields)

    (layer,), _ = check(bench, graph(node), {"c": fold})

    assert layer.pe == 2 * node.out_channels
    assert layer.out_lanes == layer.pe
    assert layer.macs == layer.window.windows * 2 * node.weight.size


def test_no_multiplier_and_no_buffered_element_is_wasted():
    """Two windows of 3 x 3 pixels side by side are 3 x 4 pixels, and each product is needed."""
    (layer,) = configure(graph(conv()), {"c": Fold(3, 18, pixels=2)})

    assert layer.elements == 3 * 4 * 2
    assert layer.pe * layer.simd == 2 * 3 * 18
    assert sum(map(len, layer.window.kept)) == layer.elements


def test_bipolar_and_few_bits(bench):
    rng = np.random.default_rng(0)
    out = ir.Thresholds(np.sort(rng.integers(-9, 9, (3, 3)), axis=1), ir.TensorType(2, False))
    node = ir.Conv2d(
        name="c", inputs=("x",), weight=rng.choice([-1, 1], (3, 3, 3, 2)), bias=np.zeros(3, int),
        weight_bits=1, weight_bipolar=True, requantize=out,
    )  # fmt: skip
    for kind in (ir.TensorType(1, True, bipolar=True), KIND):
        for multiplier in ("dsp", "shift"):
            network = graph(node, kind=kind)
            check(bench, network, {"c": Fold(3, 18, multiplier, pixels=2)})


def pool(op, **fields):
    rng = np.random.default_rng(1)
    if op is not ir.MaxPool:
        fields["requantize"] = ir.Requantize(rng.integers(20000, 30000, 2), np.full(2, 17), OUT)
    return op(name="p", inputs=("x",), **fields)


THREE = {"kernel": (3, 3), "stride": (1, 1), "padding": (1, 1, 1, 1)}
HALF = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0, 0, 0)}
WHOLE = {"kernel": SIZE[:2], "stride": (1, 1), "padding": (0, 0, 0, 0)}
POOLS = {
    "a part of the window": (pool(ir.MaxPool, **THREE), Fold(1, 3), 192),
    "a window": (pool(ir.MaxPool, **THREE), Fold(2, 9), 32),
    "maximum": (pool(ir.MaxPool, **THREE), Fold(2, 9, pixels=2), 16),
    "maximum of stride 2": (pool(ir.MaxPool, **HALF), Fold(2, 4, pixels=2), 8),
    "average": (pool(ir.AvgPool, **THREE), Fold(2, 9, pixels=4), 8),
    "average in parts": (pool(ir.AvgPool, **THREE), Fold(2, 3), 96),
    "average without the padding": (
        pool(ir.AvgPool, **THREE, count_include_pad=False), Fold(2, 9, pixels=4), 8,
    ),
    "window of the whole image": (pool(ir.MaxPool, **WHOLE), Fold(2, pixels=16), 2),
    "average of the whole image": (
        pool(ir.AvgPool, **WHOLE, count_include_pad=False), Fold(2, pixels=8), 4,
    ),
    "global": (pool(ir.GlobalAvgPool), Fold(2, pixels=4), 8),
}  # fmt: skip


@pytest.mark.parametrize("case", POOLS)
@pytest.mark.parametrize("control", ["none", "parity"])
def test_a_pool(bench, case, control):
    node, fold, interval = POOLS[case]

    _, found = check(bench, graph(node), {"p": fold}, {"p": Protection(control=control)})

    assert found == interval


PADS = [((1, 1, 0, 3), 4), ((2, 0, 1, 4), 2), ((0, 3, 3, 1), 4), ((0, 2, 0, 2), 2)]


@pytest.mark.parametrize(("padding", "pixels"), PADS)
@pytest.mark.parametrize("channels", [(0, 0), (1, 2)])
def test_a_border_of_any_width(bench, padding, pixels, channels):
    """A border that is no multiple of the word shifts every word."""
    node = ir.Pad(name="p", inputs=("x",), padding=padding, channels=channels)
    count = 2 + sum(channels)

    check(bench, graph(node), {"p": Fold(count, pixels=1)})
    (layer,), _ = check(bench, graph(node), {"p": Fold(count, pixels=pixels)})

    assert layer.delayed == padding[1] % pixels * 2


def meeting(*, concat):
    one, two = conv("one", neurons=3), conv("two", neurons=5 if concat else 3, kernel=(1, 1),
                                            padding=(0, 0, 0, 0))  # fmt: skip
    rng = np.random.default_rng(2)
    if concat:
        tables = (ir.Requantize(rng.integers(500, 1000, 3), np.full(3, 10), OUT), None)
        join = ir.Concat(name="j", inputs=("one", "two"), requantize=tables, out=OUT)
    else:
        join = ir.Add(name="j", inputs=("one", "two"), multipliers=(3, 5), shift=3, out=OUT)
    return graph(one, two, join)


@pytest.mark.parametrize("concat", [False, True])
@pytest.mark.parametrize("pixels", [1, 2, 4])
def test_branches_meet_several_pixels_a_cycle(bench, concat, pixels):
    folding = {
        "one": Fold(3, 18, pixels=pixels),
        "two": Fold(5 if concat else 3, 2, pixels=pixels),
        "j": Fold(8 if concat else 3, pixels=pixels),
    }

    layers, interval = check(bench, meeting(concat=concat), folding)

    assert interval == 32 // pixels
    assert isinstance(layers[2], MergeConfig) == concat


@pytest.mark.parametrize("seed", range(10))
def test_random_networks(bench, broad_network, seed):
    """Chains and DAGs with any operator, protection included."""
    network, folding, protection = broad_network(np.random.default_rng(seed))

    check(bench, network, folding, protection)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
def test_more_random_networks(bench, broad_network, seed):
    network, folding, protection = broad_network(np.random.default_rng(seed))

    check(bench, network, folding, protection)


def test_random_networks_cover_every_operator(broad_network):
    drawn = [broad_network(np.random.default_rng(seed)) for seed in range(60)]

    broad = {
        type(node)
        for network, folding, _ in drawn
        for node in network
        if folding.get(node.name, Fold()).pixels > 1
    }
    assert broad == {ir.Conv2d, ir.MaxPool, ir.AvgPool, ir.GlobalAvgPool, ir.Add, ir.Concat, ir.Pad}


@pytest.mark.parametrize("seed", range(160, 190))
def test_the_closed_form_is_the_interval_of_the_recurrence(broad_network, seed):
    layers = configure(*broad_network(np.random.default_rng(seed)))

    assert recurrence(layers, 6).initiation_interval == initiation_interval(layers)


def test_copies_of_a_graph_read_their_own_elements():
    rng = np.random.default_rng(0)
    matrix, x = rng.integers(-20, 20, (3, 4)), rng.integers(-8, 8, (50, 7))
    places = [[0, 2, 4, 5], [6, 1, 4, 3]]

    found = copies(solve(matrix, [(-8, 7)] * 4), places, 7)

    truth = np.concatenate([x[:, place] @ matrix.T for place in places], axis=1)
    assert (found.evaluate(x) == truth).all()


@pytest.mark.parametrize("modulus", [3, 255])
def test_a_checksum_sees_an_upset_of_any_pixel(bench, registers, modulus):
    network = graph(conv())
    layers = configure(network, {"c": Fold(3, 18, pixels=2)}, {"c": Protection(modulus)})
    x = random_frames(network, 3, 0)
    for lane in range(6):
        del registers[:]

        def upsets(lane=lane):
            found = [r for r in registers if r.name == "acc" and r.attrs.get("lane") == str(lane)]
            return [bench.Upset(found[0], 2, cycle) for cycle in range(40, 44)]

        run, _ = bench.run_network(layers, x, upsets=upsets)

        assert run.landed == 4
        assert 1 <= sum(run.flagged) <= 2


def test_replicas_of_a_neuron_cover_all_its_pixels(bench, registers):
    network = graph(conv())
    folding, protection = {"c": Fold(3, 18, pixels=2)}, {"c": Protection(None, (1,))}
    (layer,), _ = check(bench, network, folding, protection)
    assert layer.replicated == (1, 4)
    x = random_frames(network, 3, 0)
    truth = reference.run(network, x).reshape(len(x), -1)
    outcomes = {}
    for lane in range(6):
        del registers[:]

        def upsets(lane=lane):
            found = [r for r in registers if r.name == "acc" and r.attrs.get("lane") == str(lane)]
            return [bench.Upset(found[0], 5, cycle) for cycle in range(40, 44)]

        run, found = bench.run_network((layer,), x, upsets=upsets)
        assert run.landed == 4
        outcomes[lane] = bool((found == truth).all())

    assert outcomes[1]
    assert outcomes[4]
    assert not all(outcomes.values())


UNFILLED = r"layer .: pixels = . do not fill the words of its input and output; choose one of "
REFUSED = {
    "a row of whole words": (conv(), Fold(3, 18, pixels=3), UNFILLED + r"\[1, 2, 4, 8\]"),
    "none": (conv(), Fold(3, 18, pixels=0), UNFILLED),
    "half the neurons": (
        conv(), Fold(1, 18, pixels=2),
        "layer c: pixels = 2 needs whole pixels in every cycle; set pe = 3 and simd = 18$",
    ),
    "a pool": (pool(ir.MaxPool, **THREE), Fold(2, 1, pixels=2), "set pe = 2 and simd = 9$"),
    "a pool's elements": (pool(ir.MaxPool, **THREE), Fold(2, 2), "layer p: simd = 2 does not div"),
    "a pad": (
        ir.Pad(name="p", inputs=("x",), padding=(0, 1, 0, 0)), Fold(2, pixels=2),
        UNFILLED + r"\[1\]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_circuit_is_one_line_that_names_the_layer(case):
    node, fold, text = REFUSED[case]

    with pytest.raises(InputError, match=text) as error:
        configure(graph(node), {node.name: fold})
    assert "\n" not in str(error.value)


def test_layers_of_one_pixel_refuse_more():
    dense = ir.Dense(name="d", inputs=("x",), weight=np.ones((2, 4), int), bias=np.zeros(2, int))
    best = ir.ArgMax(name="b", inputs=("d",))
    network = ir.Graph("g", "x", (4,), KIND, (dense, best), "b")

    for name in ("d", "b"):
        with pytest.raises(InputError, match=f"layer {name}: .* has one pixel; set pixels = 1"):
            configure(network, {name: Fold(pixels=2)})


def test_kinds_of_layers_keep_the_kinds_of_their_configurations():
    shift = configure(graph(conv()), {"c": Fold(3, 18, "shift", pixels=2)})
    plain = configure(graph(conv()), {"c": Fold(3, 18, pixels=2)})
    pooled = configure(graph(pool(ir.MaxPool, **HALF)), {"p": Fold(2, 4, pixels=2)})

    assert [type(layers[0]) for layers in (shift, plain, pooled)] == [
        ShiftConfig, LinearConfig, PoolConfig,
    ]  # fmt: skip
