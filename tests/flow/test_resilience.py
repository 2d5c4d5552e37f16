"""The resilience estimate: exact bits and cycles, hand-counted exposures, what plans take away."""

import dataclasses
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tercet.flow
from tercet.flow.cli import main
from tercet.flow.costs.layer import layer_resources
from tercet.flow.design import arrange, prepare
from tercet.flow.plan import Plan
from tercet.flow.resilience import control, resilience_estimate, sensitivity
from tercet.flow.resilience import table as tables
from tercet.flow.resilience.control import rate, table
from tercet.hw.configure import Fold, Protection
from tercet.hw.timing import initiation_interval
from tercet.quant import ir, serialize
from tercet.quant.errors import InputError
from tercet.quant.sensitivity import LayerSensitivity, Sensitivity, measure

RELU = ir.Requantize([700], [16], ir.TensorType(8, False), lo=0)
FOLDING = {"conv": Fold(2, 3), "pool": Fold(2), "fc": Fold(2, 4)}


@pytest.fixture(scope="module")
def graph():
    """6x6 image of 1 channel -> conv 8 -> max pool -> dense 4; random weights."""
    rng = np.random.default_rng(5)
    nodes = (
        ir.Conv2d(
            name="conv",
            inputs=("x",),
            weight=rng.integers(-100, 100, (8, 3, 3, 1)),
            bias=rng.integers(-300, 300, 8),
            requantize=RELU,
        ),
        ir.MaxPool(name="pool", inputs=("conv",), kernel=(2, 2), stride=(2, 2)),
        ir.Flatten(name="flat", inputs=("pool",)),
        ir.Dense(
            name="fc",
            inputs=("flat",),
            weight=rng.integers(-100, 100, (4, 32)),
            bias=np.zeros(4, dtype=int),
        ),
    )
    return ir.Graph("small", "x", (6, 6, 1), ir.TensorType(8, False), nodes, "fc")


@pytest.fixture(scope="module")
def x(graph):
    return np.random.default_rng(6).integers(0, 256, (16, 6, 6, 1))


@pytest.fixture(scope="module")
def measured(graph, x):
    return measure(graph, x, trials=600)


@pytest.fixture(scope="module")
def plain(graph):
    return prepare(graph, FOLDING)


def _guarded(design, guard, layers=("conv", "pool", "fc")):
    guards = {name: replace(guard) for name in design.protection}
    guards |= {name: Protection() for name in guards if name not in layers}
    return arrange(design.graph, design.folding, Plan(), guards)


def _roles(found, layer):
    return next(one.roles for one in found.layers if one.name == layer)


def _flat(graph, value=0.01):
    """A table in which every flip changes the class with the same probability."""
    names = ("product", "partial", "acc", "weight", "act1", "act4", "act16", "total", "multiplier")
    names += ("result", "operand0", "operand1", "operand2", "act", "best", "index")
    layers = {}
    for node in graph:
        outputs = getattr(node, "out_channels", 0)
        curves = dict.fromkeys(names, (value,) * 8)
        layers[node.name] = LayerSensitivity(node.name, curves, (1.0,) * outputs, {3: 0.25})
    return Sensitivity(serialize.digest(graph), 1, 1, 0, layers)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(["chain", "dag", "broad"]))
def test_bits_and_interval_are_those_of_the_estimate(
    random_network, random_dag, broad_network, seed, kind
):
    make = {"chain": random_network, "dag": random_dag, "broad": broad_network}[kind]
    graph, folding, guards = make(np.random.default_rng(seed))
    design = arrange(graph, folding, Plan(), {name: Protection() for name in folding} | guards)

    found = resilience_estimate(design, _flat(graph))

    counted = layer_resources(design.layers, "ecp5")
    assert found.ff_bits == sum(one.rtl_ffs for one in counted)
    assert found.initiation_interval == initiation_interval(design.layers)
    assert 0 < found.vulnerable_bit_cycles <= found.ff_bits * found.initiation_interval
    for layer, one in zip(found.layers, counted, strict=True):
        assert sum(role.bits for role in layer.roles.values()) == one.rtl_ffs
        for role in layer.roles.values():
            assert 0 <= role.vulnerable_bit_cycles <= role.critical_bit_cycles + 1e-9


def test_exposure_is_bits_times_live_cycles_times_probability(graph, plain):
    """conv: 2 lanes x 3 multipliers, 16 windows x 4 passes x 3 steps; groups drain in a beat."""
    found = _roles(resilience_estimate(plain, _flat(graph, 0.01)), "conv")

    layer = plain.layers[0]
    steps, groups = 16 * 4 * 3, 16 * 4
    assert found["product"].critical_bit_cycles == pytest.approx(
        (2 * 3 * 17 + _sums(layer)) * steps * 0.01
    )
    assert found["weight"].critical_bit_cycles == pytest.approx(2 * 3 * 8 * steps * 0.01)
    assert found["activation"].critical_bit_cycles == pytest.approx(3 * 8 * steps * 0.01)
    drain = layer.acc_bits * 2 * groups * (layer.beats + 1) / 2 if layer.beats > 1 else 0
    assert found["accumulator"].critical_bit_cycles == pytest.approx(
        (2 * layer.acc_bits * steps + drain) * 0.01
    )


def _sums(layer):
    from tercet.flow.costs.ffs import registers

    return sum(one.total for one in registers(layer) if one.name == "sum")


def test_a_plain_design_keeps_all_of_its_vulnerability(graph, plain, measured):
    found = resilience_estimate(plain, measured)

    assert found.ratio == pytest.approx(1)
    assert found.vulnerable_bit_cycles == pytest.approx(found.plain_bit_cycles)
    assert found.avf == pytest.approx(
        found.vulnerable_bit_cycles / found.ff_bits / found.initiation_interval
    )


@pytest.mark.parametrize(
    ("guard", "silent"),
    [
        (Protection(modulus=3), {"product", "accumulator"}),
        (Protection(control="tmr"), {"control"}),
    ],
)
def test_what_a_protection_covers_is_gone(graph, plain, guard, silent):
    found = resilience_estimate(_guarded(plain, guard, ("conv", "fc")), _flat(graph))

    before = resilience_estimate(plain, _flat(graph))
    for name in ("conv", "fc"):
        for role, one in _roles(found, name).items():
            if role in silent:
                assert one.vulnerable_bit_cycles == pytest.approx(0)
                assert one.critical_bit_cycles > 0
            elif role in _roles(before, name) and role not in ("weight", "control"):
                assert one.vulnerable_bit_cycles == pytest.approx(one.critical_bit_cycles)
    assert found.plain_bit_cycles == pytest.approx(before.vulnerable_bit_cycles)


def test_a_modulus_misses_the_weights_of_what_it_divides(graph, plain):
    found = resilience_estimate(_guarded(plain, Protection(modulus=3), ("conv",)), _flat(graph))

    weight = _roles(found, "conv")["weight"]
    assert weight.vulnerable_bit_cycles == pytest.approx(0.25 * weight.critical_bit_cycles)


def test_parity_leaves_what_was_measured(graph, plain):
    guarded = _guarded(plain, Protection(control="parity"), ("pool",))

    control = _roles(resilience_estimate(guarded, _flat(graph)), "pool")["control"]

    assert 0 < control.vulnerable_bit_cycles < control.critical_bit_cycles


def test_voted_neurons_take_their_share_of_the_lanes_risk(graph, plain):
    flat = _flat(graph)
    weights = (4.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1.0)
    conv = dataclasses.replace(flat.layers["conv"], neurons=weights)
    table = dataclasses.replace(flat, layers={**flat.layers, "conv": conv})
    guards = dict(plain.protection) | {"conv": Protection(neurons=(0, 7))}
    design = arrange(graph, plain.folding, Plan(), guards)

    found = _roles(resilience_estimate(design, table), "conv")

    before = _roles(resilience_estimate(plain, table), "conv")
    voted = {0, 7}
    lanes = design.layers[0].replicated
    assert lanes
    order = design.permutation["conv"]
    voted |= {int(order[p]) for p in range(8) if p % 2 in lanes}
    left = sum(w for n, w in enumerate(weights) if n not in voted) / sum(weights)
    for role in ("product", "weight"):
        assert found[role].bits > before[role].bits
        assert found[role].critical_bit_cycles == pytest.approx(before[role].critical_bit_cycles)
        assert found[role].vulnerable_bit_cycles == pytest.approx(
            left * before[role].vulnerable_bit_cycles
        )


def test_passes_voted_in_time_cost_cycles_and_keep_no_risk(graph, plain):
    """Neurons 0 and 1 share a pass, which is computed three times."""
    guards = dict(plain.protection) | {"conv": Protection(neurons=(0, 1), mode="temporal")}
    design = arrange(graph, plain.folding, Plan(), guards)

    found = _roles(resilience_estimate(design, _flat(graph)), "conv")

    before = _roles(resilience_estimate(plain, _flat(graph)), "conv")
    assert design.layers[0].repeated
    assert found["product"].bits == before["product"].bits
    critical = before["product"].critical_bit_cycles
    assert found["product"].critical_bit_cycles == pytest.approx(critical)
    assert found["product"].vulnerable_bit_cycles == pytest.approx(0.75 * critical)


def test_the_package_exports_the_estimate():
    assert tercet.flow.resilience_estimate is resilience_estimate


def test_a_table_of_another_graph_is_refused(plain, graph, measured):
    other = dataclasses.replace(measured, graph="0" * 64)

    with pytest.raises(InputError, match="another graph"):
        resilience_estimate(plain, other)


def test_json_holds_layers_and_roles(plain, measured):
    found = json.loads(json.dumps(resilience_estimate(plain, measured).to_json()))

    assert [layer["name"] for layer in found["layers"]] == ["conv", "pool", "fc"]
    total = sum(layer["vulnerable_bit_cycles"] for layer in found["layers"])
    assert found["vulnerable_bit_cycles"] == pytest.approx(total)
    assert found["ratio"] == pytest.approx(1)
    assert set(found["layers"][0]["roles"]["product"]) == {
        "bits",
        "critical_bit_cycles",
        "vulnerable_bit_cycles",
    }


def test_control_constants_are_measured_and_fall_back_to_their_family():
    counts = table()
    kinds = counts["none"]

    critical = sum(c for families in kinds.values() for c, _ in families.values())
    upsets = sum(n for families in kinds.values() for _, n in families.values())
    assert upsets > 1000
    assert counts["command"].startswith("python benchmarks/control_rates.py")
    assert rate("no such kind", "no such family") == pytest.approx(critical / upsets)
    assert rate("Conv2d", "position") != rate("MaxPool", "position")
    for kind, families in kinds.items():
        for family in families:
            assert 0 <= rate(kind, family, "parity") <= 1
            assert 0 <= rate(kind, family) <= 1


def test_a_watchdog_counts_once_it_was_measured(monkeypatch):
    counts = {
        "none": {"Conv2d": {"used": [500, 1000]}},
        "parity": {"Conv2d": {"used": [100, 1000]}},
    }
    monkeypatch.setattr(control, "table", lambda: counts)
    unkept = rate.__wrapped__

    assert unkept("Conv2d", "used", "parity, watchdog") == unkept("Conv2d", "used", "parity")
    counts["parity, watchdog"] = {"Conv2d": {"used": [1, 1000]}}
    assert unkept("Conv2d", "used", "parity, watchdog") == pytest.approx(0.001)


def test_parity_lowers_the_rate_of_control():
    rates = {}
    for mode in ("none", "parity"):
        counts = [pair for families in table()[mode].values() for pair in families.values()]
        rates[mode] = sum(c for c, _ in counts) / sum(n for _, n in counts)

    assert rates["parity"] < 0.5 * rates["none"]


def test_sensitivity_is_measured_once(graph, x, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = sensitivity(graph, x, images=4, trials=30)
    monkeypatch.setattr(tables, "measure", None)

    again = sensitivity(graph, x, images=4, trials=30)

    assert again.to_json() == first.to_json() == measure(graph, x, images=4, trials=30).to_json()
    with pytest.raises(TypeError):
        sensitivity(graph, x + 0, images=5, trials=30)


def test_large_networks_get_fewer_flips(graph, x, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tables, "MACS", 600 * (16 * 9 * 8 + 32 * 4))

    assert sensitivity(graph, x, images=2).trials == 600


def test_a_spoilt_cache_entry_is_named(graph, x, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sensitivity(graph, x, images=2, trials=10)
    (path,) = (tmp_path / "tercet" / "sensitivity").glob("*/sensitivity.json")
    path.write_text("{}")

    with pytest.raises(InputError, match="measure again"):
        sensitivity(graph, x, images=2, trials=10)


def _files(graph, x, folder):
    serialize.save(graph, folder / "graph.json")
    np.savez(folder / "x.npz", x=x)
    return [str(folder / "graph.json"), "--resilience", "--json"]


def test_the_command_predicts_only_when_asked(graph, x, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model, flag, _ = _files(graph, x, tmp_path)

    assert main(["estimate", model, "--json"]) == 0
    assert "resilience" not in json.loads(capsys.readouterr().out)
    assert main(["estimate", model, flag, "--calibration", str(tmp_path / "x.npz"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["resilience"]
    assert found["images"] == 16
    assert found["vulnerable_bit_cycles"] > 0
    assert main(["estimate", model, flag, "--calibration", str(tmp_path / "x.npz")]) == 0
    assert "vulnerable bit-cycles, predicted" in capsys.readouterr().out


def test_the_command_needs_inputs(graph, x, tmp_path, capsys):
    assert main(["estimate", *_files(graph, x, tmp_path)]) == 2
    assert "--calibration" in capsys.readouterr().err
