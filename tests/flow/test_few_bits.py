"""A bipolar and 2-bit network on digits, built and verified on Verilator; minutes."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tercet.flow.builder import build_design
from tercet.flow.design import prepare
from tercet.flow.plan import Checksum, Plan, Settings, Tmr
from tercet.quant import ir
from tercet.quant.reference import Reference
from tercet.sim.verify import verify

pytestmark = [pytest.mark.slow, pytest.mark.verilator]

IMAGES = 60
BIPOLAR = ir.TensorType(1, True, bipolar=True)
TWO_BITS = ir.TensorType(2, False)
PLANS = {
    "plain": Plan(),
    "hardened": Plan(
        Settings(Checksum(3)),
        {"conv2": Settings(tmr=Tmr((1, 7))), "hidden": Settings(tmr=Tmr((0, 13)))},
    ),
}  # fmt: skip


class Growing:
    """A chain of layers whose thresholds split what the images give into equal shares."""

    def __init__(self, x):
        self.rng, self.first, self.values = np.random.default_rng(0), x.shape[1:], x
        self.nodes = ()

    def add(self, kind, name, **fields):
        source = self.nodes[-1].name if self.nodes else "x"
        node = kind(name=name, inputs=(source,), **fields)
        if isinstance(getattr(node, "requantize", None), ir.Thresholds):
            acc = self._reference(node).accumulate(node, [self.values])
            out = node.requantize.out
            shares = np.arange(1, 1 << out.bits) / (1 << out.bits)
            rows = np.quantile(acc.reshape(-1, acc.shape[-1]), shares, axis=0)
            table = ir.Thresholds(np.ceil(rows.T).astype(np.int64), out)
            node = dataclasses.replace(node, requantize=table)
        self.values = self._reference(node).evaluate(node, [self.values])
        self.nodes = (*self.nodes, node)

    def linear(self, kind, name, shape, out=None, **fields):
        steps = None if out is None else ir.Thresholds([range((1 << out.bits) - 1)], out)
        self.add(
            kind, name, weight=self.rng.choice([-1, 1], shape), bias=np.zeros(shape[0], int),
            weight_bits=1, weight_bipolar=True, requantize=steps, **fields,
        )  # fmt: skip

    def graph(self, name):
        return ir.Graph("few_bits", "x", self.first, BIPOLAR, self.nodes, name)

    def _reference(self, node):
        return Reference(ir.Graph("g", "x", self.first, BIPOLAR, (*self.nodes, node), node.name))


@pytest.fixture(scope="module")
def images():
    """Digits as black and white pixels, int64 [n, 8, 8, 1] of -1 and +1."""
    from tercet.quant.datasets import digits

    pixels = digits().test_x[:IMAGES].reshape(-1, 8, 8, 1)
    return np.where(pixels > pixels.mean(), 1, -1).astype(np.int64)


@pytest.fixture(scope="module")
def graph(images):
    chain = Growing(images)
    mean = ir.Requantize(np.array([9000]), np.array([15]), ir.TensorType(3, False))
    chain.linear(ir.Conv2d, "conv1", (8, 3, 3, 1), TWO_BITS)
    chain.add(
        ir.AvgPool, "mean", kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1), requantize=mean,
        count_include_pad=False,
    )  # fmt: skip
    chain.linear(ir.Conv2d, "conv2", (16, 2, 2, 8), BIPOLAR)
    chain.add(ir.MaxPool, "most", kernel=(2, 1), stride=(1, 1))
    chain.add(ir.Flatten, "flat")
    chain.linear(ir.Dense, "hidden", (16, 32), BIPOLAR)
    chain.linear(ir.Dense, "logits", (10, 16))
    return chain.graph("logits")


def test_the_network_has_every_kind_of_few_bits(graph, images):
    values = Reference(graph).execute(images)

    assert set(values["conv1"].ravel()) == {0, 1, 2, 3}
    for name in ("conv2", "most", "hidden"):
        assert set(values[name].ravel()) == {-1, 1}
    assert len(np.unique(values["logits"], axis=0)) > IMAGES // 2


@pytest.mark.parametrize("plan", PLANS)
def test_a_network_of_few_bits_is_bit_exact(graph, images, tmp_path, plan):
    build_design(prepare(graph, None, PLANS[plan]), tmp_path / "design", frames=images)

    found = verify(tmp_path / "design")

    assert (found["images"], found["mismatches"]) == (IMAGES, 0)
    assert [bench for bench in found["benches"] if not bench["passed"]] == []
    assert found["latency_cycles"] == found["predicted"]["latency_cycles"]
    assert found["initiation_interval"] == found["predicted"]["initiation_interval"]


def test_the_bench_that_needs_no_tercet_passes(graph, images, tmp_path):
    build_design(prepare(graph), tmp_path / "design", frames=images)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    bench = tmp_path / "design" / "cocotb"

    done = subprocess.run(
        ["make", "-C", str(bench)],
        env={**os.environ, "PATH": path},
        capture_output=True,
        timeout=580,
    )

    assert done.returncode == 0
    assert b"<failure" not in (bench / "results.xml").read_bytes()
