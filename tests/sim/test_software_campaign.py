"""Campaigns of tensor faults: reproducible, kept, replayable, refused with one line."""

import json

import numpy as np
import pytest

from tercet.quant import serialize
from tercet.quant.errors import InputError
from tercet.quant.faults import TensorFaults
from tercet.sim.engines.software import predict
from tercet.sim.outcomes import Outcome
from tercet.sim.software_campaign import LAWS, TENSORS, software_campaign

FAULTS = 400
DENSE = tuple(law for law in LAWS if law not in ("mibb", "permanent", "adsaf", "adsaf-bit"))


@pytest.mark.parametrize("law", DENSE)
def test_report_has_the_promised_keys_and_adds_up(small_dir, law):
    told = []
    rate = None if law == "single" else 0.01

    report = software_campaign(
        small_dir, law=law, rate=rate, faults=FAULTS, progress=lambda *args: told.append(args)
    )

    assert json.loads(json.dumps(report)) == report
    assert report["engine"] == "software"
    assert report["experiments"] == sum(report["outcomes"].values()) == FAULTS
    assert sum(report["per_input"]["experiments"]) == FAULTS
    assert sum(report["per_input"]["sdc_critical"]) == report["outcomes"]["sdc_critical"]
    critical = report["sdc_critical"]
    assert critical["low"] <= critical["avf"] <= critical["high"]
    assert critical["avf"] == report["outcomes"]["sdc_critical"] / FAULTS
    assert report["rate_per_s"] == pytest.approx(FAULTS / report["seconds"])
    assert report["inputs"] == 32
    assert (
        sum(row["words_changed"] for row in report["by_layer"].values())
        == (report["words_changed"])
    )
    assert told[-1][0] == "inferences"


def test_single_flips_are_told_by_layer_and_bit(small_dir):
    report = software_campaign(small_dir, tensor="weight", faults=FAULTS)

    assert sum(row["experiments"] for row in report["by_layer"].values()) == FAULTS
    for layer, rows in report["by_bit"].items():
        assert [row["bit"] for row in rows] == [0, 1, 2, 3]
        whole = report["by_layer"][layer]
        for key in ("sdc_critical", "sdc_tolerable", "masked"):
            assert sum(row[key] for row in rows) == whole["outcomes"][key]


def test_the_kept_list_replays_to_the_same_outcomes(small_dir):
    report = software_campaign(small_dir, law="ber", rate=0.02, faults=FAULTS, seed=4)
    folder = small_dir / "campaigns" / report["id"]

    assert json.loads((folder / "report.json").read_text()) == report
    graph = serialize.load(small_dir / "graph.json")
    frames = np.load(small_dir / "vectors.npz")["x"][:32]
    found = predict(graph, frames, TensorFaults.load(folder / "faults.npz"))
    counts = np.bincount(found.outcome, minlength=len(Outcome))
    assert {Outcome[key.upper()]: n for key, n in report["outcomes"].items()} == {
        kind: counts[kind] for kind in (Outcome.SDC_CRITICAL, Outcome.SDC_TOLERABLE, Outcome.MASKED)
    }


def test_the_same_arguments_give_the_same_campaign(small_dir):
    first, second, other = (
        software_campaign(small_dir, tensor="product", faults=FAULTS, seed=seed)
        for seed in (1, 1, 2)
    )

    assert second["id"] == first["id"] != other["id"]
    assert second["per_input"] == first["per_input"] != other["per_input"]


def test_torch_gives_the_same_outcomes(small_dir):
    pytest.importorskip("torch")
    one, other = (
        software_campaign(small_dir, law="ber", rate=0.02, faults=FAULTS, device=device)
        for device in (None, "cpu")
    )

    assert other["device"] == "cpu"
    assert other["outcomes"] == one["outcomes"]
    assert other["id"] == one["id"]


@pytest.mark.parametrize("tensor", sorted(TENSORS))
def test_every_kind_of_word_can_be_struck(small_dir, tensor):
    report = software_campaign(small_dir, tensor=tensor, faults=FAULTS, layer=None)

    assert report["outcomes"]["sdc_tolerable"] + report["outcomes"]["sdc_critical"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"law": "moore"}, "law must be one of single, ber, mibb"),
        ({"rate": 0.1}, "law single has no rate"),
        ({"law": "ber", "rate": 0.0}, r"rate must lie in 0\.\.1 and not be 0"),
        ({"law": "ber", "rate": 1.5}, r"rate must lie in 0\.\.1"),
        ({"law": "ber", "tensor": "product"}, "tensor must be one of weight, bias, activation"),
        ({"law": "ibb", "tensor": "weight"}, "tensor is fixed by the law"),
        ({"tensor": "preactivation"}, "tensor must be one of"),
        ({"layer": "fc9"}, "no layer 'fc9'"),
        ({"law": "mibb"}, "Mibb strikes no layer; name some"),
        ({"law": "ber", "rate": 1e-9}, "the list is empty"),
        ({"faults": 0}, "must be at least 1"),
        ({"inputs": 0}, "must be at least 1"),
        ({"confidence": 1.0}, "confidence must lie between"),
    ],
)
def test_bad_arguments_are_refused(small_dir, options, message):
    with pytest.raises(InputError, match=message):
        software_campaign(small_dir, **{"faults": 10, **options})


def test_a_directory_without_a_graph_is_refused(small_dir):
    (small_dir / "graph.json").unlink()
    with pytest.raises(InputError, match=r"graph\.json: is missing"):
        software_campaign(small_dir, faults=10)
