"""Topology-only objectives against figures worked out by hand."""

import numpy as np
import pytest

from tercet.flow.search import topology
from tercet.quant import ir

BYTE, NIBBLE = ir.TensorType(8, False), ir.TensorType(4, False)


def requantize(out=BYTE):
    return ir.Requantize(np.array([1]), np.array([6]), out)


def conv(name, source, outputs, inputs, kernel=1, groups=1, out=BYTE, bits=8):
    weight = np.ones((outputs, kernel, kernel, inputs // groups), dtype=np.int64)
    return ir.Conv2d(
        name=name, inputs=(source,), weight=weight, bias=np.zeros(outputs, dtype=np.int64),
        weight_bits=bits, groups=groups, padding=(kernel // 2,) * 4, requantize=requantize(out),
    )  # fmt: skip


def dense(name, source, outputs, inputs):
    weight, bias = np.ones((outputs, inputs), dtype=np.int64), np.zeros(outputs, dtype=np.int64)
    return ir.Dense(name=name, inputs=(source,), weight=weight, bias=bias)


def pool(name, source):
    return ir.MaxPool(name=name, inputs=(source,), kernel=(2, 2), stride=(2, 2))


def add(name, *sources):
    return ir.Add(name=name, inputs=sources, multipliers=(1, 1), shift=1, out=BYTE)


def graph(*nodes, shape=(4, 4, 2), kind=BYTE):
    return ir.Graph("net", "x", shape, kind, nodes, nodes[-1].name)


@pytest.fixture
def chain():
    """4x4x2 -> conv 3x3 of 8 (4 bits) -> pool -> flatten -> dense 5."""
    return graph(
        conv("conv", "x", 8, 2, 3, out=NIBBLE, bits=4),
        pool("pool", "conv"),
        ir.Flatten(name="flat", inputs=("pool",)),
        dense("fc", "flat", 5, 32),
    )


def test_every_feature_map_of_a_chain_has_relevance_one(chain):
    found = topology.feature_maps(chain)

    assert {name: (m.elements, m.bits, m.relevance) for name, m in found.items()} == {
        "conv": (128, 4, 1.0),
        "pool": (32, 4, 1.0),
        "fc": (5, 4 + 8 + 5, 1.0),
    }


def test_asi_of_a_chain(chain):
    found = topology.asi(chain)

    assert found == topology.Asi(3 / 165, 4 + 4 + 17, 1 / 5)


def test_adcr_and_counts_of_a_chain(chain):
    conv_bits, conv_macs = 32 * 8 + 144 * 4 + 128 * 4, 16 * 144
    fc_bits, fc_macs = 32 * 4 + 160 * 8 + 5 * 17, 160

    assert topology.adcr(chain) == pytest.approx(conv_bits / 8 / conv_macs + fc_bits / 8 / fc_macs)
    assert topology.macs(chain) == conv_macs + fc_macs
    assert topology.parameters(chain) == 144 + 8 + 160 + 5
    assert topology.weight_bytes(chain) == 144 / 2 + 160
    assert topology.depth(chain) == 2
    assert topology.peak_activation_bytes(chain) == 128 / 2 + 32  # input and first result


def test_a_sum_of_two_gives_each_branch_half():
    found = topology.feature_maps(
        graph(
            conv("a", "x", 2, 2),
            conv("b", "a", 2, 2),
            add("sum", "b", "a"),
        )
    )

    assert {name: m.relevance for name, m in found.items()} == {"a": 1.0, "b": 0.5, "sum": 1.0}


def test_a_sum_of_three_gives_each_branch_a_third():
    net = graph(
        conv("a", "x", 2, 2),
        conv("b", "x", 2, 2),
        conv("c", "x", 2, 2),
        add("ab", "a", "b"),
        add("abc", "ab", "c"),
    )

    found = {name: m.relevance for name, m in topology.feature_maps(net).items()}
    assert found == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3, "ab": 2 / 3, "abc": 1.0})


def test_a_sum_that_others_read_counts_as_one_branch():
    net = graph(
        conv("a", "x", 2, 2),
        add("first", "a", "x"),
        conv("b", "first", 2, 2),
        add("last", "b", "first"),
    )

    found = {name: m.relevance for name, m in topology.feature_maps(net).items()}
    assert found == {"a": 0.5, "first": 1.0, "b": 0.5, "last": 1.0}


def test_concat_shares_by_channels():
    net = graph(
        conv("a", "x", 2, 2),
        conv("b", "x", 6, 2),
        ir.Concat(name="both", inputs=("a", "b"), requantize=(None, None), out=BYTE),
    )

    found = {name: m.relevance for name, m in topology.feature_maps(net).items()}
    assert found == {"a": 0.25, "b": 0.75, "both": 1.0}
    assert topology.peak_activation_bytes(net) == 32 + 96 + 128


def test_depthwise_pools_and_means_pass_relevance_on():
    net = graph(
        conv("deep", "x", 2, 2, 3, groups=2),
        ir.AvgPool(
            name="avg", inputs=("deep",), requantize=requantize(), kernel=(2, 2), stride=(2, 2)
        ),
        ir.GlobalAvgPool(name="mean", inputs=("avg",), requantize=requantize()),
        dense("fc", "mean", 3, 2),
        ir.ArgMax(name="top", inputs=("fc",)),
    )

    found = topology.feature_maps(net)
    assert {name: m.relevance for name, m in found.items()} == {
        "deep": 1.0, "avg": 1.0, "mean": 1.0, "fc": 1.0,
    }  # fmt: skip
    assert topology.macs(net) == 16 * 18 + 6
    assert topology.asi(net).worst == 1 / 2


def test_logits_are_as_wide_whatever_the_weights_are():
    small, large = (dense("fc", "x", 3, 16) for _ in range(2))
    large = ir.Dense(name="fc", inputs=("x",), weight=large.weight * 127, bias=large.bias)

    found = [topology.asi(graph(node, shape=(16,))) for node in (small, large)]
    assert found[0] == found[1]


def test_depth_is_the_longest_way():
    net = graph(
        conv("a", "x", 2, 2), conv("b", "a", 2, 2), conv("skip", "x", 2, 2), add("s", "b", "skip")
    )

    assert topology.depth(net) == 2
