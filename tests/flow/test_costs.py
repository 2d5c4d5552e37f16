"""Costs by rule: registers against the Verilog, blocks and mapped flip-flops against Yosys."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tercet.flow import targets
from tercet.flow.costs import blocks, ffs, luts, mapped
from tercet.flow.costs.columns import bits_of, column_luts, distinct, rom_luts
from tercet.flow.costs.families import FAMILIES, Dsp
from tercet.flow.costs.fit import Equations, cross_validate, solve
from tercet.flow.costs.layer import around, forks, operand_lanes
from tercet.flow.costs.sample import Sample, sample
from tercet.flow.emit import TOP, emit
from tercet.flow.synth import synthesize
from tercet.hw.configure import Fold, configure
from tercet.quant.ir import Dense, Graph, TensorType
from tercet.sim import sites

ECP5 = FAMILIES["ecp5"]


def verilog_registers(layers, folder):
    """{layer: {role: bits}} of the Verilog, with the converters before it and its forks."""
    found, names = {}, {layer.name for layer in layers}
    for register in sites.enumerate(emit(layers, Path(folder)), TOP):
        name = register.layer.removeprefix("to_")
        if name not in names:  # an operand's converter, the input's fork
            name = name.rpartition("_")[0] or layers[0].name
        roles = found.setdefault(name, Counter())
        roles[register.role] += register.width
    return found


def estimated_registers(layers):
    found = {}
    for layer, lanes, behind in zip(layers, operand_lanes(layers), forks(layers), strict=True):
        roles = found.setdefault(layer.name, Counter())
        for register in (*ffs.registers(layer), *around(layer, lanes, behind)):
            roles[register.role] += register.total
    return {name: Counter({k: n for k, n in roles.items() if n}) for name, roles in found.items()}


def counts(layers, family):
    """(flip-flops, DSP blocks, memory blocks) by rule."""
    total = [0, 0, 0.0]
    between = zip(layers, operand_lanes(layers), forks(layers), strict=True)
    for index, (layer, lanes, behind) in enumerate(between):
        placed = blocks.place(layer, family)
        total[0] += ffs.ff_bits((*ffs.registers(layer), *around(layer, lanes, behind)))
        total[0] += mapped.added(layer, placed, family, first=index == 0)
        total[1] += blocks.dsps(blocks.products(layer), family)
        total[2] += sum(one.brams for one in placed)
    return tuple(total)


# Checksum with and without parity, TMR, unrolled layers, pools, ArgMax, converters, few bits.
@pytest.mark.parametrize("seed", [3, 8, 10, 11, 12, 25, 29, 36, 52, 58])
def test_registers_of_the_verilog(tmp_path, seed):
    layers = sample(seed)

    assert estimated_registers(layers) == verilog_registers(layers, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 140))
def test_registers_of_more_designs(tmp_path, seed):
    layers = sample(seed)

    assert estimated_registers(layers) == verilog_registers(layers, tmp_path)


# Thresholds with and without drain and tables, bipolar operands, averages without the padding.
@pytest.mark.parametrize("seed", [0, 1, 2, 7, 9, 12, 16, 19])
def test_registers_of_few_bits(tmp_path, random_network, seed):
    layers = configure(*random_network(np.random.default_rng(seed)))

    assert estimated_registers(layers) == verilog_registers(layers, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(500, 530))
def test_registers_of_more_networks(tmp_path, random_network, seed):
    layers = configure(*random_network(np.random.default_rng(seed)))

    assert estimated_registers(layers) == verilog_registers(layers, tmp_path)


# Codes of streams and weights, guarded registers, control in triplicate, every kind of layer.
@pytest.mark.parametrize("seed", [5, 8])
def test_registers_of_guarded_layers(tmp_path, helper, seed):
    check_guarded(tmp_path, helper("hw", "networks"), seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(600, 640))
def test_registers_of_more_guarded_layers(tmp_path, helper, seed):
    check_guarded(tmp_path, helper("hw", "networks"), seed)


def check_guarded(folder, networks, seed):
    rng = np.random.default_rng(seed)
    graph, folding, protection = (networks.random_dag, networks.random_network)[seed % 2](rng)
    guarded = networks.harden(rng.spawn(1)[0], graph, protection)
    layers = configure(graph, folding, guarded)

    assert estimated_registers(layers) == verilog_registers(layers, folder)


def test_a_bipolar_operand_takes_no_multiplier():
    rng = np.random.default_rng(0)
    node = Dense(
        name="fc", inputs=("x",), weight=rng.choice([-1, 1], (4, 8)), bias=np.zeros(4, int),
        weight_bits=1, weight_bipolar=True,
    )  # fmt: skip
    for kind in (TensorType(8, True), TensorType(1, True, bipolar=True)):
        graph = Graph("g", "x", (8,), kind, (node,), "fc")
        for fold in (Fold(2, 4), Fold(4, 8)):
            (layer,) = configure(graph, {"fc": fold})

            assert blocks.dsps(blocks.products(layer), ECP5) == 0


# Three designs that are quick to synthesise.
@pytest.mark.parametrize("seed", [16, 27, 74])
def test_blocks_and_flip_flops_after_synthesis(tmp_path, seed):
    layers, target = sample(seed), targets.find("ecp5-85k")
    found = synthesize(emit(layers, tmp_path), TOP, target, workdir=tmp_path / "synth")
    flip_flops, dsps, brams = counts(layers, ECP5)

    assert (dsps, brams) == (found["dsps"], found["brams"])
    assert flip_flops == pytest.approx(found["ffs"], rel=0.02)


# The rules of blocks hold in every family; some registers that Yosys merges are not modelled.
FAMILY_TARGETS = [("xc7a35t", 0.05), ("gw1n-9", 0.03), ("ice40-up5k", 0.06), ("ice40-hx8k", 0.06)]


@pytest.mark.parametrize(("target", "error"), FAMILY_TARGETS)
def test_blocks_and_flip_flops_of_every_family(tmp_path, target, error):
    check_family(tmp_path, target, error, seed=14)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [9, 20, 27, 35])
@pytest.mark.parametrize(("target", "error"), FAMILY_TARGETS)
def test_blocks_and_flip_flops_of_more_designs(tmp_path, target, error, seed):
    check_family(tmp_path, target, error, seed)


def check_family(folder, name, error, seed):
    layers, target = sample(seed), targets.find(name)
    found = synthesize(emit(layers, folder), TOP, target, workdir=folder / "synth")
    flip_flops, dsps, brams = counts(layers, FAMILIES[target.family.name])

    assert (dsps, brams) == (found["dsps"], found["brams"])
    assert flip_flops == pytest.approx(found["ffs"], rel=error)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 212))
def test_designs_that_no_rule_was_made_with(tmp_path, seed):
    layers, target = sample(seed), targets.find("ecp5-85k")
    found = synthesize(emit(layers, tmp_path), TOP, target, workdir=tmp_path / "synth")
    flip_flops, dsps, brams = counts(layers, ECP5)

    assert (dsps, brams) == (found["dsps"], found["brams"])
    assert flip_flops == pytest.approx(found["ffs"], rel=0.05)


@pytest.mark.parametrize(
    ("depth", "width", "cells"),
    [(64, 64, 0), (64, 72, 2), (96, 24, 1), (160, 16, 1), (36, 32, 0), (2560, 16, 3)],
)
def test_a_rom_goes_to_blocks_where_they_cost_less_than_logic(depth, width, cells):
    ram, found, _ = ECP5.memory(depth, width, written=False, registered=True)

    assert (ram.kind if ram else None, found) == (("bram" if cells else None), cells)


def test_a_rom_without_a_register_stays_in_logic():
    assert ECP5.memory(4096, 16, written=False, registered=False)[0] is None


def test_the_style_of_a_rom_decides():
    logic = ECP5.memory(4096, 16, written=False, registered=True, style="logic")
    block = ECP5.memory(4, 4, written=False, registered=True, style="block")

    assert logic[0] is None
    assert block[0].kind == "bram"


def test_a_shallow_buffer_goes_to_lut_ram_and_a_deep_one_to_a_block():
    shallow = ECP5.memory(128, 8, written=True, registered=True)
    deep = ECP5.memory(256, 8, written=True, registered=True)

    assert (shallow[0].kind, shallow[1]) == ("lutram", 16)
    assert (deep[0].kind, deep[1]) == ("bram", 1)


@pytest.mark.parametrize(
    ("a", "b", "result", "count"),
    [
        ((8, False), (8, True), 17, 1),
        ((17, False), (16, False), 33, 1),
        ((20, True), (16, False), 36, 2),
        ((20, True), (20, True), 40, 4),
        ((8, True), (1, True), 9, 0),
    ],
)
def test_wide_products_take_several_blocks(a, b, result, count):
    assert Dsp(18, 18, least_result=1).blocks(a, b, result) == count


def test_equal_and_constant_columns_count_once_or_not():
    columns = bits_of(np.array([[1, 3, 0], [2, 3, 0], [1, 3, 1]]), 2)

    assert distinct(columns) == 3


def test_tables_cost_by_the_index_bits_that_matter():
    assert column_luts(tuple(range(64))) == 0
    assert column_luts(tuple(n & 1 ^ n >> 5 for n in range(64))) == 1
    assert rom_luts(33, 10) == 30


def test_replicated_lanes_add_the_product_and_accumulator_bits_of_two_lanes():
    made = next(s for s in map(Sample, range(300)) if any(g.neurons for g in s.protection.values()))
    plain = {name: type(g)(g.modulus, (), g.control) for name, g in made.protection.items()}
    hardened = made.layers
    made.protection = plain
    for layer, bare in zip(hardened, made.layers, strict=True):
        more = ffs.by_role(layer)["accumulator"] - ffs.by_role(bare)["accumulator"]

        assert more == 2 * len(getattr(layer, "replicated", ())) * getattr(layer, "acc_bits", 0)


def test_prices_are_found_again():
    equations, rng = Equations(), np.random.default_rng(0)
    for design in range(40):
        amounts = {"adders": rng.integers(10, 500), "muxes": rng.integers(10, 500)}
        luts_ = 1.5 * amounts["adders"] + 0.5 * amounts["muxes"]
        equations.add(design, amounts, luts_, luts_)

    assert solve(equations) == pytest.approx({"adders": 1.5, "muxes": 0.5}, abs=1e-3)
    predicted = cross_validate(equations, 4)
    assert predicted == pytest.approx(equations.luts, rel=1e-3)


def test_no_price_is_negative():
    equations = Equations()
    for design, (a, b, y) in enumerate([(1, 0, 10), (0, 1, -5), (1, 1, 4), (2, 1, 14)]):
        equations.add(design, {"a": a, "b": b}, y, 100)

    assert all(price > 0 for price in solve(equations).values())


def test_a_family_that_nobody_measured_has_no_model():
    assert luts.model("stratix") is None


def test_families_of_equal_cells_share_their_prices():
    assert luts.model("gw1n").prices == luts.model("gw2a").prices
    assert luts.model("ice40-hx").prices == luts.model("ice40-up").prices


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_model_names_its_tools_and_its_error(family):
    model = luts.model(family)

    assert model is not None
    assert model.designs >= 15
    assert "pyosys" in model.tools
    assert 0 < model.errors["luts"] < model.errors["worst"] < 1
