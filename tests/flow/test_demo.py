"""The demo in its quick form: every figure of its JSON, and what must hold of it."""

import pytest

from tercet.flow.demo import QUICK, area, demo
from tercet.quant.errors import InputError


@pytest.mark.verilator
def test_quick_demo_verifies_injects_and_synthesises(tmp_path):
    result = demo(tmp_path / "demo", quick=True)

    (variant,) = result["variants"]
    assert variant["name"] == "checksum"
    assert result["int_accuracy"] >= max(0.96, result["float_accuracy"] - 0.01)
    assert variant["verify"]["images"] == QUICK.images
    assert variant["verify"]["mismatches"] == 0
    assert all(bench["passed"] for bench in variant["verify"]["benches"])
    assert variant["verify"]["latency_cycles"] == variant["build"]["latency_cycles"]
    assert variant["verify"]["initiation_interval"] == variant["build"]["initiation_interval"]
    assert variant["inject"]["experiments"] == QUICK.faults
    assert variant["inject"]["audit"] == {"sampled": 20, "disagreements": 0, "differing": []}
    assert variant["inject"]["detection_coverage"] > 0.5
    assert variant["inject"]["by_role"]["product"]["outcomes"]["sdc_critical"] == 0
    assert variant["sdc_ratio"] is None
    assert variant["synth"]["luts"] > 1000


def test_folder_that_cannot_be_made_is_bad_input(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(InputError, match="--out"):
        demo(tmp_path / "file" / "demo", quick=True)


def test_area_weighs_four_resources():
    assert area({"luts": 10, "ffs": 4, "dsps": 1, "brams": 2}) == 10 + 2 + 100 + 400
