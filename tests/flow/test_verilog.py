"""Verilator's lint of built designs: nothing is left that a waiver does not explain."""

import re
from fnmatch import fnmatch

import numpy as np
import pytest

from tercet.flow.design import prepare
from tercet.flow.emit import emit
from tercet.flow.plan import Checksum, Plan, Settings, Tmr
from tercet.hw.configure import configure
from tercet.quant.errors import InputError
from tercet.sim import lint as module
from tercet.sim.lint import lint

PLANS = {
    "plain": Plan(),
    "checksum": Plan(Settings(Checksum(255), control="parity")),
    "everything": Plan(
        Settings(Checksum(3)),
        {"conv": Settings(tmr=Tmr((0, 3))), "logits": Settings(tmr=Tmr((1,)))},
    ),
}


@pytest.mark.parametrize("plan", PLANS)
def test_a_design_is_clean(small, tmp_path, plan):
    layers = prepare(small.graph(), small.FOLDING, PLANS[plan]).layers

    assert lint(emit(layers, tmp_path)) == []


@pytest.mark.parametrize("seed", range(4))
def test_a_random_design_is_clean(random_network, tmp_path, seed):
    layers = configure(*random_network(np.random.default_rng(seed)))

    assert lint(emit(layers, tmp_path)) == []


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["plain", "checksum"])
def test_the_odd_network_is_clean(tmp_path, plan):
    from tercet.quant.models.digits import odd_network

    assert lint(emit(prepare(odd_network(), None, PLANS[plan]).layers, tmp_path)) == []


def test_every_waiver_is_needed_and_has_a_reason(small, tmp_path, monkeypatch):
    verilog = emit(prepare(small.graph(), small.FOLDING, PLANS["everything"]).layers, tmp_path)
    waivers = module.WAIVERS
    monkeypatch.setattr(module, "WAIVERS", ())

    found = lint(verilog)

    for waiver in waivers:
        covered = [line for line in found if line.startswith(f"{waiver.rule}: ")]
        assert any(fnmatch(line.split(": ", 2)[2], waiver.match) for line in covered), waiver
        assert len(waiver.reason) > 20
    assert {line.split(":")[0] for line in found} == {waiver.rule for waiver in waivers}


BROKEN = {
    "WIDTHTRUNC": "assign y = a + 9'd300;",
    "UNDRIVEN": "wire z; assign y = {8{z}};",
    "LATCH": "reg [7:0] r; always @* if (a[0]) r = a; assign y = r;",
    "MULTIDRIVEN": "reg [7:0] r; always @(posedge clk) r <= a; always @(posedge a[0]) r <= 0; "
    "assign y = r;",
    "UNOPTFLAT": "wire [7:0] u = y ^ a; assign y = {u[6:0], u[7]};",
    "ERROR": "assign y = nothing +;",
}


@pytest.mark.parametrize("rule", BROKEN)
def test_mistakes_are_found(tmp_path, rule):
    path = tmp_path / "top.v"
    head = "module top(input clk, input [7:0] a, output [7:0] y);"
    path.write_text(f"{head}\n{BROKEN[rule]}\nendmodule\n")

    found = lint(path)

    assert any(re.match(rf"{rule}: top\.v:[12]:", line) for line in found), found


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"none\.v: no such Verilog file"):
        lint(tmp_path / "none.v")
