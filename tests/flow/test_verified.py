"""Built Verilog on Verilator: the odd network under three plans, random networks and DAGs.

Minutes; `make slow` runs them.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tercet.flow.builder import build_design
from tercet.flow.design import prepare
from tercet.flow.plan import Checksum, Plan, Settings, Tmr
from tercet.quant import ir, reference
from tercet.sim.expected import random_frames
from tercet.sim.verify import verify

pytestmark = [pytest.mark.slow, pytest.mark.verilator]

IMAGES = 360
PLANS = {
    "plain": Plan(),
    "checksum": Plan(Settings(Checksum(3))),
    "checksum and replicas": Plan(
        Settings(Checksum(3)),
        {
            "conv1": Settings(tmr=Tmr((0, 5))),
            "conv2": Settings(tmr=Tmr((1, 7, 14))),
            "hidden": Settings(tmr=Tmr((0, 13))),
        },
    ),
    "passes three times, and three voters": Plan(
        layers={
            "conv1": Settings(tmr=Tmr((0, 5), mode="temporal"), control="tmr"),
            "conv2": Settings(tmr=Tmr((1, 7, 14), voters=3)),
            "hidden": Settings(tmr=Tmr((0, 13), mode="temporal"), control="parity"),
        },
    ),
}


@pytest.fixture(scope="module")
def odd():
    """The trained odd network: zero points, strides, groups, 4 and 8 bits, odd channel counts."""
    from tercet.quant.models.digits import odd_network

    return odd_network()


@pytest.fixture(scope="module")
def digits(odd):
    """360 test images as the odd network's integers."""
    from tercet.quant.datasets import digits as load
    from tercet.quant.models.digits import odd_input
    from tercet.quant.quantize import quantize_input

    return quantize_input(odd, odd_input(load().test_x[:IMAGES]))


def test_the_odd_network_is_odd(odd):
    convolutions = [node for node in odd if isinstance(node, ir.Conv2d)]
    linear = [node for node in odd if isinstance(node, ir.Conv2d | ir.Dense)]

    assert odd.input_type.zero_point != 0
    assert any(node.stride != (1, 1) for node in convolutions)
    assert any(any(node.padding) for node in convolutions)
    assert any(node.groups > 1 for node in convolutions)
    assert {node.weight_bits for node in linear} == {4, 8}
    assert any(node.out_channels % 2 for node in linear)
    assert any(node.requantize and len(node.requantize.multiplier) > 1 for node in linear)


@pytest.mark.parametrize("plan", PLANS)
def test_the_odd_network_is_bit_exact(odd, digits, tmp_path, plan):
    build_design(prepare(odd, None, PLANS[plan]), tmp_path / "design", frames=digits)

    found = verify(tmp_path / "design")

    assert (found["images"], found["mismatches"]) == (IMAGES, 0)
    assert [bench["name"] for bench in found["benches"] if not bench["passed"]] == []
    assert found["latency_cycles"] == found["predicted"]["latency_cycles"]
    assert found["initiation_interval"] == found["predicted"]["initiation_interval"]


def draw(random_network, rng):
    """A random network whose output depends on its input: an upset can show."""
    while True:
        graph, folding, protection = random_network(rng)
        x = random_frames(graph, 8, int(rng.integers(1 << 30)))
        if len(np.unique(reference.run(graph, x), axis=0)) > 2:
            return graph, folding, protection


def plan_of(protection):
    """The plan that protects as the random network asks."""
    return Plan(
        layers={
            name: Settings(
                checksum=Checksum(guard.modulus) if guard.modulus else None,
                tmr=Tmr(guard.neurons) if guard.neurons else None,
                control=guard.control,
            )
            for name, guard in protection.items()
        }
    )


@pytest.mark.parametrize("seed", range(1000, 1024))
def test_a_random_network_on_verilator(random_network, tmp_path, seed):
    graph, folding, protection = draw(random_network, np.random.default_rng(seed))
    build_design(prepare(graph, folding, plan_of(protection)), tmp_path / "design")

    found = verify(tmp_path / "design", images=5, seed=seed)

    assert (found["images"], found["mismatches"]) == (5, 0)
    assert [bench for bench in found["benches"] if not bench["passed"]] == []
    assert found["latency_cycles"] == found["predicted"]["latency_cycles"]
    assert found["initiation_interval"] == found["predicted"]["initiation_interval"]


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_dags_on_verilator(random_dag, tmp_path_factory, seed):
    """Every operator, branches, joins and protections: every tap, under stalls."""
    graph, folding, protection = draw(random_dag, np.random.default_rng(seed))
    design = tmp_path_factory.mktemp("dag") / "design"
    build_design(prepare(graph, folding, plan_of(protection)), design)

    found = verify(design, images=4, seed=seed)

    assert (found["images"], found["mismatches"]) == (4, 0)
    assert [bench for bench in found["benches"] if not bench["passed"]] == []
    assert found["latency_cycles"] == found["predicted"]["latency_cycles"]
    assert found["initiation_interval"] == found["predicted"]["initiation_interval"]
