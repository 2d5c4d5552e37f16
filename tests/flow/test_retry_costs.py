"""Registers of layers that compute groups again, against the Verilog; the log's memories."""

import dataclasses

import numpy as np
import pytest

from tercet.flow.costs import blocks
from tercet.flow.costs.families import FAMILIES
from tercet.flow.costs.retry import log_words
from tercet.hw.configure import Fold, Protection, configure
from tercet.quant import ir


def layers_with_retry(kind, seed, control):
    """A random network with retries in every convolution and dense layer."""
    rng = np.random.default_rng(seed)
    graph, folding, protection = kind(rng)
    for node in graph:
        if isinstance(node, ir.Conv2d | ir.Dense):
            guard = protection.get(node.name, Protection())
            protection[node.name] = dataclasses.replace(
                guard,
                modulus=guard.modulus or int(rng.choice([3, 7])),
                retry=int(rng.integers(1, 4)),
                control=control,
                weights=str(rng.choice(["none", "parity"])),
            )
    return configure(graph, folding, protection)


@pytest.mark.parametrize("control", ["none", "parity", "tmr"])
@pytest.mark.parametrize("seed", [0, 5, 6])
def test_registers_of_the_verilog(tmp_path, helper, random_network, seed, control):
    costs = helper("flow", "test_costs")
    layers = layers_with_retry(random_network, seed, control)

    expected = costs.verilog_registers(layers, tmp_path)
    assert costs.estimated_registers(layers) == expected


def dense(retry):
    node = ir.Dense(name="fc", inputs=("x",), weight=np.ones((8, 16), int), bias=np.zeros(8, int))
    graph = ir.Graph("g", "x", (16,), ir.TensorType(4, False), (node,), "fc")
    guard = Protection(modulus=3, retry=retry)
    return configure(graph, {"fc": Fold(2, 4)}, {"fc": guard})[0]


def test_the_log_takes_two_memories():
    plain, again = (blocks.place(dense(retry), FAMILIES["ecp5"]) for retry in (0, 1))

    logs = [one for one in again if one.memory.role == "log"]
    assert not [one for one in plain if one.memory.role == "log"]
    assert tuple(one.memory.width for one in logs) == log_words(dense(1))
    assert sum(one.lutrams for one in logs) > 0
    with pytest.raises(ValueError, match="layer fc logs no groups"):
        log_words(dense(0))
