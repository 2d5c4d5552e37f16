"""Pools and ArgMax against the reference; ties, borders, latency."""

import numpy as np
import pytest

from tercet.hw.config import CLAIM_CYCLES
from tercet.hw.configure import Fold, configure
from tercet.hw.timing import recurrence
from tercet.quant import ir, reference

UNSIGNED = ir.TensorType(4, False, zero_point=6)
SIGNED = ir.TensorType(5, True, zero_point=-2)
BIPOLAR = ir.TensorType(1, True, bipolar=True)
IMAGE = (5, 6, 4)


def scale(out=SIGNED, *, count=1):
    rng = np.random.default_rng(0)
    return ir.Requantize(rng.integers(2000, 9000, count), rng.integers(13, 16, count), out)


def check(bench, node, shape=IMAGE, kind=UNSIGNED, fold=None, *, seed=None, x=None, **options):
    """Run frames through the layer `x`; its output has to equal the reference's."""
    graph = ir.Graph("g", "i", shape, kind, (node,), "x")
    (layer,) = configure(graph, {"x": fold or Fold()})
    if x is None:
        x = np.random.default_rng(1).integers(kind.lo, kind.hi + 1, (3, *shape))
    run, found = bench.run_network((layer,), x, seed=seed, **options)
    assert (found == reference.run(graph, x).reshape(len(x), -1)).all()
    return run, layer


def pool(kind, **fields):
    return kind(name="x", inputs=("i",), **fields)


WINDOWS = [
    {"kernel": (2, 2), "stride": (2, 2)},
    {"kernel": (3, 2), "stride": (1, 1), "padding": (1, 1, 1, 0)},
    {"kernel": (1, 1), "stride": (2, 3)},
    {"kernel": (4, 3), "stride": (1, 2), "padding": (0, 2, 3, 1)},
]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("kind", [UNSIGNED, SIGNED], ids=["unsigned", "signed"])
@pytest.mark.parametrize("pe", [1, 4])
def test_maximum(bench, window, kind, pe):
    check(bench, pool(ir.MaxPool, **window), kind=kind, fold=Fold(pe), seed=pe)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("kind", [UNSIGNED, SIGNED], ids=["unsigned", "signed"])
@pytest.mark.parametrize("count", [1, 4])
def test_average(bench, window, kind, count):
    node = pool(ir.AvgPool, requantize=scale(count=count), **window)

    check(bench, node, kind=kind, fold=Fold(2), seed=count)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("fold", [Fold(1), Fold(2), Fold(4)], ids=str)
def test_average_without_the_padding(bench, window, fold):
    for count in (1, 4):
        node = pool(ir.AvgPool, requantize=scale(count=count), count_include_pad=False, **window)

        check(bench, node, kind=SIGNED, fold=fold, seed=count)


def test_an_average_without_the_padding_takes_no_cycle_more(bench):
    window = {"kernel": (3, 3), "stride": (1, 1), "padding": (1, 1, 1, 1), "requantize": scale()}

    whole, _ = check(bench, pool(ir.AvgPool, **window))
    inside, _ = check(bench, pool(ir.AvgPool, count_include_pad=False, **window))

    assert inside.last_cycles == whole.last_cycles


@pytest.mark.parametrize("pe", [1, 4])
def test_bipolar_pools(bench, pe):
    x = np.random.default_rng(pe).choice([-1, 1], (3, *IMAGE))
    window = {"kernel": (2, 3), "stride": (1, 2)}
    for node in (
        pool(ir.MaxPool, **window),
        pool(ir.MaxPool, padding=(1, 0, 1, 2), **window),
        pool(ir.AvgPool, requantize=scale(count=4), **window),
        pool(ir.GlobalAvgPool, requantize=scale()),
    ):
        check(bench, node, kind=BIPOLAR, fold=Fold(pe), x=x, seed=pe)


def test_index_of_the_first_plus_one(bench):
    x = np.array([[-1, -1, -1], [-1, 1, 1], [1, -1, 1], [-1, -1, 1]])

    check(bench, pool(ir.ArgMax), (3,), BIPOLAR, x=x)


def test_average_by_a_plain_shift(bench):
    """Its requantiser is a cycle shorter than one that multiplies."""
    shift = ir.Requantize(np.array([1]), np.array([3]), ir.TensorType(5, True))
    node = pool(ir.AvgPool, kernel=(2, 4), stride=(1, 1), requantize=shift)

    slow, _ = check(bench, pool(ir.AvgPool, kernel=(2, 4), stride=(1, 1), requantize=scale()))
    quick, _ = check(bench, node)

    assert slow.last_cycles[0] - quick.last_cycles[0] == 1


@pytest.mark.parametrize("pe", [1, 2])
def test_global_average(bench, pe):
    check(bench, pool(ir.GlobalAvgPool, requantize=scale(count=4)), fold=Fold(pe), seed=3)


def test_padding_never_wins_a_maximum(bench):
    node = pool(ir.MaxPool, kernel=(3, 3), stride=(1, 1), padding=(1, 1, 1, 1))
    x = np.full((1, *IMAGE), SIGNED.lo)

    check(bench, node, kind=SIGNED, x=x)


@pytest.mark.parametrize("kind", [UNSIGNED, SIGNED], ids=["unsigned", "signed"])
@pytest.mark.parametrize("elements", [1, 2, 5, 10])
def test_index_of_the_largest(bench, kind, elements):
    rng = np.random.default_rng(elements)
    x = rng.integers(kind.lo, kind.hi + 1, (20, elements))

    check(bench, pool(ir.ArgMax), (elements,), kind, x=x, seed=1)


def test_a_tie_goes_to_the_lowest_index(bench):
    x = np.array([[3, 3, 3], [0, 5, 5], [-16, -16, -16], [-1, -2, -1]])

    check(bench, pool(ir.ArgMax), (3,), SIGNED, x=x)


def test_latency_is_the_sum_of_the_ranks(bench):
    for node, shape in (
        (pool(ir.ArgMax), (6,)),
        (pool(ir.MaxPool, kernel=(1, 1), stride=(1, 1)), (1, 1, 1)),
        (pool(ir.GlobalAvgPool, requantize=scale()), (2, 3, 1)),
    ):
        run, layer = check(bench, node, shape)

        start = max(layer.window.frame_words, CLAIM_CYCLES)
        assert run.last_cycles[0] == start + layer.window.steps - 1 + layer.pipeline_cycles
        assert tuple(run.last_cycles) == recurrence((layer,), 3).last_beat_cycles


def test_a_flagged_word_flags_its_frame_only(bench):
    node = pool(ir.MaxPool, kernel=(2, 2), stride=(2, 2))

    run, _ = check(bench, node, flag=(1, 17))

    assert run.flagged == [False, True, False]


def test_a_reset_in_mid_frame_starts_afresh(bench):
    node = pool(ir.AvgPool, kernel=(3, 3), stride=(1, 1), requantize=scale())

    check(bench, node, reset_after=31)
    check(bench, pool(ir.ArgMax), (6,), reset_after=9)
