"""Costs of networks with branches: registers, memories and products of joins and forks."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tercet.flow import targets
from tercet.flow.costs import blocks, ffs
from tercet.flow.costs.families import FAMILIES
from tercet.flow.costs.joins import fork_registers
from tercet.flow.costs.layer import forks, layer_resources, operand_lanes
from tercet.flow.emit import TOP, emit
from tercet.flow.estimator import estimate, estimate_command
from tercet.flow.synth import synthesize
from tercet.hw.config import INPUT
from tercet.hw.configure import Fold, Protection, configure
from tercet.hw.join_config import JoinConfig
from tercet.quant import serialize
from tercet.quant.ir import Add, Concat, Conv2d, Graph, Requantize, TensorType
from tercet.sim import sites


def verilog_registers(layers, folder):
    """{part: {role: bits}} of the Verilog: layers, forks with them, `to_<layer>` converters."""
    found = {}
    for register in sites.enumerate(emit(layers, Path(folder)), TOP):
        found.setdefault(register.layer, Counter())[register.role] += register.width
    return found


def estimated_registers(layers):
    """As `verilog_registers`, by closed form."""
    found = {}
    readers = Counter(source for layer in layers for source in layer.sources)
    parts = [("input", fork_registers(readers[INPUT], "none"))]
    for layer, lanes in zip(layers, operand_lanes(layers), strict=True):
        parts.append((layer.name, ffs.registers(layer)))
        parts.append((layer.name, fork_registers(readers[layer.name], layer.control)))
        for port, width in enumerate(lanes):
            name = f"to_{layer.name}" + f"_{port}" * isinstance(layer, JoinConfig)
            parts.append((name, ffs.converter(width, layer, port)))
    for name, registers in parts:
        for register in registers:
            if register.total:
                found.setdefault(name, Counter())[register.role] += register.total
    return found


def check(layers, folder):
    found = verilog_registers(layers, folder)
    total = sum(sum(roles.values()) for roles in found.values())

    assert estimated_registers(layers) == found
    assert sum(one.rtl_ffs for one in layer_resources(layers, "ecp5")) == total


@pytest.mark.parametrize("seed", [1, 3, 5, 7])
def test_registers_of_networks_with_branches(tmp_path, random_dag, seed):
    check(configure(*random_dag(np.random.default_rng(seed))), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(700, 760))
def test_registers_of_more_networks_with_branches(tmp_path, random_dag, seed):
    check(configure(*random_dag(np.random.default_rng(seed))), tmp_path)


def residual_graph(edge, *, concat=False):
    """Two convolutions and a branch around them, which meet in Add or Concat."""
    rng, kind, channels = np.random.default_rng(0), TensorType(8, True), 4
    common = {"weight_bits": 8, "stride": (1, 1), "padding": (1, 1, 1, 1)}
    nodes = [
        Conv2d(
            name=name, inputs=(source,), weight=rng.integers(-100, 100, (channels, 3, 3, channels)),
            bias=rng.integers(-99, 99, channels), requantize=scales(rng, channels, kind), **common,
        )
        for name, source in (("first", "x"), ("second", "first"))
    ]  # fmt: skip
    if concat:
        tables = (scales(rng, 1, kind, 16), None)
        join = Concat(name="join", inputs=("second", "x"), requantize=tables, out=kind)
    else:
        join = Add(name="join", inputs=("second", "x"), multipliers=(19, 32), shift=6, out=kind)
    return Graph("residual", "x", (edge, edge, channels), kind, (*nodes, join), "join")


def residual(pe, edge, *, concat=False, control="none"):
    """Its circuits; the join on `pe` lanes."""
    guards = {"join": Protection(control=control)}
    return configure(residual_graph(edge, concat=concat), {"join": Fold(pe)}, guards)


def scales(rng, channels, kind, shift=24):
    multiplier = rng.integers(1 << 15, 1 << 16, channels)
    return Requantize(multiplier, np.full(channels, shift), kind)


def synthesised(layers, folder):
    """(Flip-flops, DSP blocks, memory blocks, LUTs) by Yosys and by rule."""
    target = targets.find("ecp5-85k")
    found = synthesize(emit(layers, folder), TOP, target, workdir=folder / "synth")
    estimated = layer_resources(layers, "ecp5")
    keys = ("ffs", "dsps", "brams", "luts")
    return [found[key] for key in keys], [sum(getattr(e, key) for e in estimated) for key in keys]


def check_synthesis(layers, folder):
    found, estimated = synthesised(layers, folder)

    assert estimated[1:3] == found[1:3]
    assert estimated[0] == pytest.approx(found[0], rel=0.02)
    assert estimated[3] == pytest.approx(found[3], rel=0.25)


def test_a_deep_skip_fifo_goes_to_a_memory_block(tmp_path):
    layers = residual(1, 16)
    placed = {one.memory.depth: one for one in blocks.place(layers[-1], FAMILIES["ecp5"])}

    assert layers[-1].operands[1].depth > 64
    assert placed[256].brams == 1
    check_synthesis(layers, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("control", ["none", "parity"])
@pytest.mark.parametrize(("pe", "edge", "concat"), [(4, 6, False), (2, 8, True), (1, 16, True)])
def test_residual_networks_after_synthesis(tmp_path, pe, edge, concat, control):
    check_synthesis(residual(pe, edge, concat=concat, control=control), tmp_path)


def test_explain_shows_the_words_that_wait_in_front_of_a_join(tmp_path):
    path = tmp_path / "graph.json"
    path.write_text(serialize.to_json(residual_graph(8)))
    result = estimate_command(str(path), explain=True)
    first, _, join = result["explain"]

    assert result["bottleneck"] in ("first", "second")
    assert (first["skip_words"], join["windows"], join["utilisation"]) == ([], None, None)
    assert len(join["skip_words"]) == 2
    assert sum(layer["rtl_ffs"] for layer in result["layers"]) == result["rtl_ffs"]


def test_powers_of_two_take_no_multiplier():
    (*_, join) = residual(4, 4)

    assert sum(product.count for product in blocks.products(join)) == 4  # 19 in each lane, not 32


def test_a_fork_counts_to_the_layer_in_front_of_it():
    layers = residual(1, 4)
    alone = [ffs.ff_bits(ffs.registers(layer)) for layer in layers]
    with_forks = [one.rtl_ffs for one in layer_resources(layers, "ecp5")]

    assert forks(layers) == [((2, "none"),), (), ()]
    assert with_forks[0] == alone[0] + 2


def test_operands_of_a_concat_may_have_tables_of_different_lengths():
    kind = TensorType(4, False)
    few = Requantize(np.array([3, 5]), np.array([3, 3]), kind)
    many = Requantize(np.array([3, 5, 6, 7]), np.array([3, 3, 3, 3]), kind)
    weight, bias = np.ones((4, 1, 1, 2), int), np.zeros(4, int)
    nodes = (
        Conv2d(name="c", inputs=("x",), weight=weight, bias=bias, requantize=many),
        Concat(name="cat", inputs=("x", "c"), requantize=(few, many), out=kind),
    )
    graph = Graph("g", "x", (3, 3, 2), kind, nodes, "cat")

    cost = estimate(graph, folding={"c": Fold(2, 2), "cat": Fold(2)})

    assert cost.luts == sum(layer.luts for layer in cost.layers)
    assert cost.layers[1].luts > 0
