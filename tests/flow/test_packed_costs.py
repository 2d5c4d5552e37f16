"""Lanes that share multipliers: costs against the Verilog and Yosys, choices, refusals."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from tercet.flow import targets
from tercet.flow.builder import build_design
from tercet.flow.costs import blocks, ffs
from tercet.flow.costs.families import FAMILIES
from tercet.flow.costs.packing import saves_blocks
from tercet.flow.design import prepare
from tercet.flow.emit import TOP, emit
from tercet.flow.estimator import estimate, estimate_design
from tercet.flow.folding import Solver, fold_to_fit
from tercet.flow.synth import synthesize
from tercet.hw.configure import Fold, Protection, configure
from tercet.quant import ir
from tercet.quant.errors import InputError
from tercet.sim import sites

XC7, ECP5 = targets.find("xc7a35t"), targets.find("ecp5-85k")
BYTE = ir.TensorType(8, True)
CLAMP = ir.Requantize(np.array([1]), np.array([7]), ir.TensorType(7, False))
FOLDING = {"conv": Fold(4, 4, "dsp2"), "fc": Fold(5, 1, "dsp2"), "last": Fold(2, 2, "dsp2")}


def network(weight_bits=8, kind=BYTE):
    """Convolution, dense with an odd number of lanes, dense."""
    rng = np.random.default_rng(8)
    half = 1 << (weight_bits - 1)

    def linear(op, name, source, shape, requantize, **fields):
        return op(
            name=name, inputs=(source,), weight=rng.integers(-half, half, shape),
            weight_bits=weight_bits, bias=rng.integers(-99, 99, shape[0]),
            requantize=requantize, **fields,
        )  # fmt: skip

    nodes = (
        linear(ir.Conv2d, "conv", "x", (8, 2, 2, 4), CLAMP, padding=(1, 0, 0, 1)),
        ir.MaxPool(name="pool", inputs=("conv",), kernel=(2, 2), stride=(2, 2)),
        ir.Flatten(name="flat", inputs=("pool",)),
        linear(ir.Dense, "fc", "flat", (10, 32), CLAMP),
        linear(ir.Dense, "last", "fc", (4, 10), None),
    )
    return ir.Graph("g", "x", (4, 4, 4), kind, nodes, "last")


@pytest.mark.parametrize(
    "guard",
    [Protection(), Protection(3), Protection(15, (), "parity"), Protection(None, (0, 1, 4))],
    ids=["plain", "checksum", "parity", "tmr"],
)
@pytest.mark.parametrize("weights", ["block", "logic"])
def test_registers_of_the_verilog(tmp_path, guard, weights):
    folding = {n: dataclasses.replace(fold, weights=weights) for n, fold in FOLDING.items()}
    layers = configure(network(), folding, dict.fromkeys(FOLDING, guard))
    found = {name: Counter() for name in FOLDING}
    for register in sites.enumerate(emit(layers, tmp_path), TOP):
        if register.layer in FOLDING:
            found[register.layer][register.role] += register.width

    estimated = {layer.name: ffs.by_role(layer) for layer in layers if layer.name in FOLDING}
    assert {n: {k: v for k, v in r.items() if v} for n, r in estimated.items()} == found


@pytest.mark.parametrize("kind", [BYTE, ir.TensorType(8, False)], ids=str)
def test_one_block_for_two_products_after_synthesis(tmp_path, kind):
    design = prepare(network(kind=kind), FOLDING)
    found = synthesize(emit(design.layers, tmp_path), TOP, XC7, workdir=tmp_path / "synth")
    cost = estimate_design(design, XC7)

    assert cost["dsps"] == found["dsps"] == 4 * 4 // 2 + 3 + 2
    assert cost["brams"] == found["brams"]
    assert cost["ffs"] == pytest.approx(found["ffs"], rel=0.02)
    assert cost["luts"] == pytest.approx(found["luts"], rel=0.25)


def test_few_bits_share_the_smaller_multipliers_of_ecp5(tmp_path):
    design = prepare(network(4, ir.TensorType(4, False)), {"conv": FOLDING["conv"]})
    found = synthesize(emit(design.layers, tmp_path), TOP, ECP5, workdir=tmp_path / "synth")
    cost = estimate_design(design, ECP5)

    assert cost["dsps"] == found["dsps"] == 8 + 2
    assert cost["ffs"] == pytest.approx(found["ffs"], rel=0.02)


def test_a_target_whose_multipliers_are_too_small_is_refused(tmp_path):
    line = (
        r'^layer conv: multiplier = "dsp2" multiplies 8 by 2[45] bits, for which ecp5-85k has no '
        r'multiplier that saves one; set multiplier = "dsp"$'
    )
    for call in (
        lambda: estimate(network(), folding=FOLDING),
        lambda: build_design(prepare(network(), FOLDING), tmp_path / "out"),
    ):
        with pytest.raises(InputError, match=line):
            call()

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", ["ecp5-85k", "ice40-up5k", "ice40-hx8k", "gw1n-9", "gw2a-18"])
def test_eight_bits_share_multipliers_on_xc7_only(target):
    (layer,) = (one for one in configure(network(), FOLDING) if one.name == "conv")

    assert not saves_blocks(layer, FAMILIES[targets.find(target).family.name])
    assert saves_blocks(layer, FAMILIES["xc7"])


def test_replicas_and_single_lanes_keep_their_own_blocks():
    guard = Protection(None, (0,))
    (layer, *_) = configure(network(), {"conv": Fold(4, 4, "dsp2")}, {"conv": guard})
    counts = {one.role: one.count for one in blocks.products(layer) if one.role in ("lane", "pair")}

    assert layer.pairs == ((1, 2),)
    assert counts == {"lane": (3 + 1) * 4, "pair": 4}


def test_a_device_short_of_multipliers_becomes_faster():
    scarce = dataclasses.replace(XC7, dsps=8)
    folding = fold_to_fit(Solver(network(), scarce), 1.0)
    design = prepare(network(), folding)
    single = {
        name: dataclasses.replace(fold, multiplier="dsp") if fold.multiplier == "dsp2" else fold
        for name, fold in folding.items()
    }

    assert "dsp2" in {fold.multiplier for fold in folding.values()}
    assert not scarce.excess(estimate_design(design, scarce))
    assert estimate_design(prepare(network(), single), scarce)["dsps"] > 8


def test_no_other_family_is_offered_it():
    folding = fold_to_fit(Solver(network(), targets.find("gw2a-18")), 1.0)

    assert "dsp2" not in {fold.multiplier for fold in folding.values()}
