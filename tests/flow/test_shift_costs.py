"""Costs of layers unrolled into shift-adds: registers against the Verilog, no multipliers."""

from collections import Counter

import numpy as np
import pytest

from tercet.flow import targets
from tercet.flow.costs import blocks, ffs
from tercet.flow.costs.families import FAMILIES
from tercet.flow.design import prepare
from tercet.flow.emit import TOP, emit
from tercet.flow.estimator import estimate_design
from tercet.hw.configure import Fold, Protection, configure
from tercet.quant import ir
from tercet.sim import sites

FOLDING = {"conv": Fold(4, 12, "shift"), "fc": Fold(5, 24, "shift"), "last": Fold(3, 5, "shift")}


@pytest.fixture(scope="module")
def graph():
    """Convolution with padding, dense with a true scale, dense with a clamp."""
    rng = np.random.default_rng(8)
    clamp = ir.Requantize(np.array([1]), np.array([7]), ir.TensorType(5, False))
    scale = ir.Requantize(rng.integers(400, 900, 5), np.full(5, 16), ir.TensorType(5, True))

    def linear(kind, name, source, shape, requantize, **fields):
        weight = rng.integers(-128, 128, shape)
        bias = rng.integers(-99, 99, shape[0])
        return kind(
            name=name, inputs=(source,), weight=weight, bias=bias, requantize=requantize, **fields
        )

    nodes = (
        linear(ir.Conv2d, "conv", "x", (4, 3, 2, 2), clamp, padding=(1, 0, 0, 1)),
        ir.MaxPool(name="pool", inputs=("conv",), kernel=(2, 2), stride=(2, 2)),
        ir.Flatten(name="flat", inputs=("pool",)),
        linear(ir.Dense, "fc", "flat", (5, 24), scale),
        linear(ir.Dense, "last", "fc", (3, 5), clamp),
    )
    return ir.Graph("g", "x", (5, 6, 2), ir.TensorType(6, True), nodes, "last")


@pytest.mark.parametrize(
    "guard",
    [Protection(), Protection(control="parity"), Protection(3), Protection(15, (), "parity")],
    ids=["plain", "parity", "checksum", "both"],
)
def test_registers_of_the_verilog(graph, tmp_path, guard):
    layers = configure(graph, FOLDING, dict.fromkeys(FOLDING, guard))
    found = {name: Counter() for name in FOLDING}
    for register in sites.enumerate(emit(layers, tmp_path), TOP):
        if register.layer in FOLDING:
            found[register.layer][register.role] += register.width

    estimated = {layer.name: ffs.by_role(layer) for layer in layers if layer.name in FOLDING}
    assert {n: {k: v for k, v in r.items() if v} for n, r in estimated.items()} == found


def test_there_are_no_multipliers_and_no_buffer_in_front_of_a_word(graph):
    last = configure(graph, FOLDING)[-1]

    assert [*blocks.products(last)] == []
    assert [memory.role for memory in blocks.memories(last)] == ["fifo"]


def test_the_additions_are_part_of_the_estimate(graph):
    design = prepare(graph, FOLDING)
    cost = estimate_design(design, targets.find("ecp5-85k"))
    adders = sum(layer.graph.adder_bits for layer in design.layers if layer.name in FOLDING)

    assert cost["luts"] > adders
    assert cost["dsps"] == sum(
        blocks.dsps(blocks.products(layer), FAMILIES["ecp5"]) for layer in design.layers
    )
