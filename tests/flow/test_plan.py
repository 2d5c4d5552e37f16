"""The plan's language, its defaults, what it protects, and errors that name file, layer and fix."""

import numpy as np
import pytest

from tercet.flow.plan import Checksum, Plan, Settings, Tmr, protect
from tercet.flow.plan_file import load_plan
from tercet.quant import criticality
from tercet.quant.errors import InputError


@pytest.fixture
def read(tmp_path):
    """read(TOML) -> Plan, from a file p.toml."""

    def load(text):
        path = tmp_path / "p.toml"
        path.write_text(text)
        return load_plan(path)

    return load


FULL = """
[default]
checksum = { modulus = 3 }
control = "parity"
[layer.conv]
tmr = { neurons = [4, 0, 4] }
[layer.hidden]
checksum = "none"
tmr = { share = 0.5 }
[layer.pool]
control = "none"
"""


def test_every_part_of_a_plan_is_read(read):
    plan = read(FULL)

    assert plan.default == Settings(Checksum(3), control="parity")
    assert plan.layers == {
        "conv": Settings(tmr=Tmr((0, 4))),
        "hidden": Settings("none", Tmr((), 0.5, "injection")),
        "pool": Settings(control="none"),
    }


def test_an_empty_plan_protects_nothing(read, small):
    plan = read("")

    assert plan == Plan()
    guards = protect(plan, small.graph(), None)
    assert all((g.modulus, g.neurons, g.control) == (None, (), "none") for g in guards.values())


def test_a_checksum_brings_control_parity_along(read, small):
    guards = protect(read("[layer.conv]\nchecksum = { modulus = 15 }"), small.graph(), None)

    assert (guards["conv"].modulus, guards["conv"].control) == (15, "parity")
    assert (guards["hidden"].modulus, guards["hidden"].control) == (None, "none")


def test_control_can_be_set_apart_from_the_checksum(read, small):
    default = '[default]\nchecksum = { modulus = 3 }\ncontrol = "none"'

    guards = protect(read(f'{default}\n[layer.pool]\ncontrol = "parity"'), small.graph(), None)

    assert {name: guard.control for name, guard in guards.items()} == {
        "conv": "none", "pool": "parity", "hidden": "none", "logits": "none",
    }  # fmt: skip
    assert guards["pool"].modulus is None


def test_a_layers_entry_replaces_the_default(read, small):
    guards = protect(read(FULL), small.graph(), small.frames(8))

    assert guards["conv"].modulus == 3
    assert guards["conv"].neurons == (0, 4)
    assert guards["hidden"].modulus is None
    assert 1 <= len(guards["hidden"].neurons) <= 3
    assert guards["logits"].neurons == ()


def test_a_share_of_the_network_takes_neurons_of_several_layers(read, small):
    plan = read("[default]\ntmr = { share = 0.4 }")

    guards = protect(plan, small.graph(), small.frames(8))

    macs = {"conv": 12 * 12, "hidden": 12, "logits": 6}
    taken = sum(macs[name] * len(guard.neurons) for name, guard in guards.items() if name in macs)
    total = macs["conv"] * 6 + macs["hidden"] * 6 + macs["logits"] * 4
    assert 0 < taken <= 0.4 * total
    assert sum(bool(guard.neurons) for guard in guards.values()) > 1


@pytest.mark.parametrize("name", criticality.SCORES)
def test_a_share_goes_to_the_highest_scores(read, small, name):
    graph, frames = small.graph(), small.frames(8)
    plan = read(f'[layer.conv]\ntmr = {{ share = 0.34, score = "{name}" }}')

    taken = protect(plan, graph, frames, seed=3)["conv"].neurons

    scores = criticality.score(graph, frames, name, seed=3)["conv"]
    assert len(taken) <= 2
    best = np.sort(scores)[::-1][: len(taken)]
    assert np.allclose(np.sort(scores[list(taken)])[::-1], best)


def test_the_json_of_a_plan_is_its_toml(read):
    plan = read(FULL)

    assert plan.to_json() == {
        "default": {"checksum": {"modulus": 3}, "control": "parity"},
        "layer": {
            "conv": {"tmr": {"neurons": [0, 4]}},
            "hidden": {"tmr": {"share": 0.5, "score": "injection"}, "checksum": "none"},
            "pool": {"control": "none"},
        },
    }
    assert Plan().to_json() == {"default": {}, "layer": {}}


BAD = {
    "default = 3": "p.toml: default must be a table",
    "[layer]\nconv = 3": "p.toml: layer.conv must be a table",
    "[network]": "p.toml: unknown key 'network'; known: default, layer",
    "[default]\nchecksums = 3": r"p.toml: \[default\]: unknown key 'checksums'; known: checksum,",
    "[default]\nchecksum = 3": r"p.toml: \[default\]: checksum must be \"none\" or",
    "[layer.conv]\nchecksum = { modulus = 4 }": r"\[layer.conv\]: checksum modulus 4: an even "
    r"modulus misses flips; choose one of 3, 7, 15, 255, exact",
    "[layer.conv]\nchecksum = { modulus = 5 }": "modulus 5: no such modulus; choose one of",
    "[layer.conv]\nchecksum = { modulus = true }": "modulus True: no such modulus",
    "[layer.conv]\nchecksum = { modulo = 3 }": r"\[layer.conv\] checksum: unknown key 'modulo'",
    "[default]\nchecksum = { retry = 4 }": "checksum retry must be a number of 0..3",
    "[default]\nchecksum = { form = 'input', retry = 1 }": "the input form knows only at a frame's",
    "[default]\nchecksum = { form = 'output' }": "form must be \"auto\", \"filter\" or \"input\"",
    "[default]\ncontrol = 'dup'": r"\[default\]: control must be one of none, parity, tmr",
    "[default]\nweights = 'crc'": "weights must be one of none, parity, secded, not crc",
    "[default]\nwatchdog = 1": "watchdog must be true or false",
    "[layer.conv]\nwatchdog = true": "guards the whole network; write it under",
    "[layer.conv]\nbound = 3": 'bound must be "none" or',
    "[layer.conv]\nbound = { kind = 'cut' }": 'bound kind must be "zero" or "saturate"',
    "[layer.conv]\nbound = { per = 'word' }": 'bound per must be "layer" or "neuron"',
    "[layer.conv]\ntmr = { neurons = [1], mode = 'twice' }": 'tmr mode must be "spatial" or',
    "[layer.conv]\ntmr = { neurons = [1], voters = 2 }": "tmr voters must be 1 or 3",
    "[layer.conv]\ntmr = 1": r"\[layer.conv\]: tmr must be { neurons",
    "[layer.conv]\ntmr = { }": r"\[layer.conv\]: tmr needs either neurons or share",
    "[layer.conv]\ntmr = { neurons = [1], share = 0.1 }": "needs either neurons or share",
    "[layer.conv]\ntmr = { neurons = [] }": "neurons must be a list of integers",
    "[layer.conv]\ntmr = { neurons = [1.5] }": "neurons must be a list of integers",
    "[layer.conv]\ntmr = { share = 1.5 }": r"tmr share must lie in 0..1, not 1.5",
    "[layer.conv]\ntmr = { share = '1' }": "tmr share must lie in 0..1, not '1'",
    "[layer.conv]\ntmr = { share = 0.1, score = 'luck' }": "tmr score must be one of .* not luck",
    "[default]\ntmr = { neurons = [1] }": r"\[default\] tmr takes a share; list neurons under",
    "a = ": "p.toml: not a TOML file",
    '["layer.<b>\\u001b"]': r"unknown key 'layer.<b>",
}  # fmt: skip


@pytest.mark.parametrize("text", BAD, ids=lambda text: text.replace("\n", " "))
def test_a_wrong_plan_is_one_line_that_names_the_key(read, text):
    with pytest.raises(InputError, match=BAD[text]) as error:
        read(text)
    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)


def test_a_plan_that_is_no_text_or_not_there(tmp_path):
    (tmp_path / "p.toml").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(InputError, match=r"p\.toml: not a TOML file"):
        load_plan(tmp_path / "p.toml")
    with pytest.raises(InputError, match=r"q\.toml: no such plan"):
        load_plan(tmp_path / "q.toml")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[layer.conv9]\nchecksum = { modulus = 3 }",
         "plan: no layer 'conv9' to protect so; the graph has conv, hidden, logits"),
        ("[layer.pool]\ntmr = { neurons = [0] }", "no layer 'pool' to protect so"),
        ("[layer.nine]\ncontrol = 'parity'", "no layer 'nine' to protect so; .* has conv, pool"),
        ("[layer.conv]\ntmr = { neurons = [6] }", r"plan: layer conv has no neuron 6; it has 0..5"),
        ("[layer.conv]\ntmr = { neurons = [-1] }", "layer conv has no neuron -1"),
        ("[default]\ntmr = { share = 0.1 }", "tmr share needs inputs .* give --calibration"),
    ],
)  # fmt: skip
def test_a_plan_for_another_network_is_refused(read, small, text, match):
    plan = read(text)

    with pytest.raises(InputError, match=match) as error:
        protect(plan, small.graph(), None)
    assert "\n" not in str(error.value)
