"""Search spaces as files: what is read, and what every mistake is told."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from tercet.flow.plan import Checksum
from tercet.flow.search.objectives import load_own
from tercet.flow.search.space_file import load_space
from tercet.quant.errors import InputError

DOCUMENT = Path(__file__).parents[3] / "docs" / "search.md"
SPACE = """
[data]
name = "digits"
[network]
family = ["chain", "residual"]
stages = [1, 2]
blocks = 1
width = [4, 8]
kernel = [1, 3]
head = ["flatten", "mean"]
weight_bits = [4, 8]
act_bits = 8
scheme = ["scale", "pow2"]
[train]
epochs = 2
seed = 7
[hardware]
target = "ecp5-25k"
interval = [64, 144]
multiplier = ["dsp", "lut"]
plan = ["none", "checksum"]
[plans.checksum.default]
checksum = { modulus = 3 }
[objectives]
minimise = ["error", "luts"]
reference = { error = 0.5, luts = 9000 }
[constraints]
fit = 0.8
latency_cycles = 3000
[search]
algorithm = "nsga3"
population = 8
evaluations = 40
seed = 3
"""
KNOWN = (
    "error, vulnerable_bit_cycles, luts, ffs, dsps, brams, latency_cycles, initiation_interval, "
    "macs, parameters, asi_fault, asi_ber, asi_worst, adcr, FILE.py:NAME"
)


def read(folder, text):
    path = folder / "space.toml"
    path.write_text(text)
    return load_space(path)


def message(folder, old, new):
    """What a space is told in which a line is another one."""
    assert SPACE.count(f"\n{old}\n") == 1
    with pytest.raises(InputError) as caught:
        read(folder, SPACE.replace(f"\n{old}\n", f"\n{new}\n"))
    return str(caught.value)


def test_reads_every_key(tmp_path):
    found = read(tmp_path, SPACE)
    chosen = {gene.name: gene.choices for gene in found.genes}

    assert chosen == {
        "family": ("chain", "residual"),
        "stages": (1, 2),
        "blocks1": (1,),
        "width1": (4, 8),
        "kernel1": (1, 3),
        "blocks2": (1,),
        "width2": (4, 8),
        "kernel2": (1, 3),
        "head": ("flatten", "mean"),
        "weight_bits": (4, 8),
        "act_bits": (8,),
        "scheme": ("scale", "pow2"),
        "interval": (64, 144),
        "multiplier": ("dsp", "lut"),
        "plan": ("none", "checksum"),
    }
    assert [g.name for g in found.genes if g.group == "hardware"] == [
        "interval",
        "multiplier",
        "plan",
    ]
    assert found.plans["checksum"].default.checksum == Checksum(3)
    assert (found.train.epochs, found.train.seed, found.target) == (2, 7, "ecp5-25k")
    assert found.objectives == ("error", "luts")
    assert found.reference == {"error": 0.5, "luts": 9000.0}
    assert found.constraints == {"fit": 0.8, "latency_cycles": 3000.0}
    assert vars(found.search) == {
        "algorithm": "nsga3",
        "population": 8,
        "evaluations": 40,
        "seed": 3,
    }


def test_most_keys_have_defaults(tmp_path):
    found = read(
        tmp_path,
        """
        network = { family = "chain", stages = 1, blocks = 1, width = 4, kernel = 3 }
        hardware = { interval = 64 }
        objectives = { minimise = ["error", "luts"] }
        """,
    )

    assert found.size == 1
    assert found.genome(np.zeros(len(found.genes), dtype=np.int64)) == {
        "family": "chain",
        "stages": 1,
        "blocks": [1],
        "width": [4],
        "kernel": [3],
        "head": "flatten",
        "weight_bits": 8,
        "act_bits": 8,
        "scheme": "scale",
        "interval": 64,
        "multiplier": "dsp",
        "plan": "none",
    }


def test_the_digest_follows_from_the_content(tmp_path):
    again = read(tmp_path, SPACE + "# a remark\n")

    assert read(tmp_path, SPACE).digest == again.digest
    assert read(tmp_path, SPACE.replace("modulus = 3", "modulus = 7")).digest != again.digest


NETWORK = [
    ("width = [4, 8]", "width = []", "width is empty; give at least one choice"),
    ("width = [4, 8]", "", "width is missing; give integers >= 1"),
    ("width = [4, 8]", "width = [4, 0]", "width must be integers >= 1, not 0"),
    ("width = [4, 8]", "width = [4, 4]", "width names a choice twice"),
    ("width = [4, 8]", "width = [true]", "width must be integers >= 1, not True"),
    ("width = [4, 8]", "width = 4.0", "width must be integers >= 1, not 4.0"),
    ("kernel = [1, 3]", "kernel = [2]", "kernel must be odd integers >= 1, not 2"),
    ("kernel = [1, 3]", 'kernel = "3"', "kernel must be odd integers >= 1, not '3'"),
    ("weight_bits = [4, 8]", "weight_bits = [1]", "weight_bits must be integers 2..8, not 1"),
    ("act_bits = 8", "act_bits = 9", "act_bits must be integers 2..8, not 9"),
    ("blocks = 1", "blocks = 0", "blocks must be integers >= 1, not 0"),
    ('scheme = ["scale", "pow2"]', 'scheme = "x"', "scheme must be one of scale, pow2, not 'x'"),
    (
        'family = ["chain", "residual"]',
        'family = "tree"',
        "family must be one of chain, residual, not 'tree'",
    ),
    (
        "blocks = 1",
        "blocks = 1\nwidths = 3",
        (
            "unknown key 'widths'; known: family, stages, blocks, width, kernel, head, "
            "weight_bits, act_bits, scheme"
        ),
    ),
    (
        "stages = [1, 2]",
        "stages = [1, 4]",
        (
            "stages 4: each stage halves the image, and images of 8 x 8 pixels can be halved "
            "3 times; give at most 3"
        ),
    ),
]


@pytest.mark.parametrize(("old", "new", "told"), NETWORK)
def test_bad_network(tmp_path, old, new, told):
    assert message(tmp_path, old, new) == f"space.toml: [network] {told}"


REST = [
    ("epochs = 2", "epochs = 0", "[train] epochs must be an integer >= 1, not 0"),
    ("seed = 7", "seed = -1", "[train] seed must be an integer >= 0, not -1"),
    ("population = 8", "population = 3", "[search] population must be an integer >= 4, not 3"),
    ("evaluations = 40", "evaluations = 0", "[search] evaluations must be an integer >= 1, not 0"),
    (
        'algorithm = "nsga3"',
        'algorithm = "hill"',
        "[search] algorithm must be one of nsga2, nsga3, random, not 'hill'",
    ),
    ("interval = [64, 144]", "interval = 0", "[hardware] interval must be integers >= 1, not 0"),
    (
        'multiplier = ["dsp", "lut"]',
        'multiplier = "fpu"',
        "[hardware] multiplier must be one of dsp, lut, not 'fpu'",
    ),
    (
        'target = "ecp5-25k"',
        "target = 25",
        "[hardware] target must be the name of a device, not 25",
    ),
    (
        'target = "ecp5-25k"',
        'target = "ecp5-99k"',
        (
            "[hardware] target 'ecp5-99k' is unknown; choose one of ecp5-25k, ecp5-45k, ecp5-85k, "
            "gw1n-9, gw2a-18, ice40-hx8k, ice40-up5k, xc7a100t, xc7a35t"
        ),
    ),
    (
        'plan = ["none", "checksum"]',
        'plan = ["none", "checksum", "all"]',
        (
            "[hardware] plan 'all' has no table [plans.all]; write one, or choose one of none, "
            "checksum"
        ),
    ),
    (
        'plan = ["none", "checksum"]',
        'plan = "none"',
        "[hardware] plan does not name [plans.checksum]; add it, or remove it",
    ),
    (
        "checksum = { modulus = 3 }",
        "checksum = { modulus = 4 }",
        (
            "[plans.checksum]: [default]: checksum modulus 4: an even modulus misses flips; choose "
            "one of 3, 7, 15, 255, exact"
        ),
    ),
    (
        "checksum = { modulus = 3 }",
        'stream = "parity"\n[plans.checksum.layer.fc]\nweights = "parity"',
        (
            "[plans.checksum]: layers differ from network to network; write "
            "[plans.checksum.default] only"
        ),
    ),
    (
        "checksum = { modulus = 3 }",
        'stream = "parity"\n[plans.none.default]\nweights = "parity"',
        "[plans.none]: the name stands for no protection; choose another",
    ),
    (
        'minimise = ["error", "luts"]',
        'minimise = ["error", "power"]',
        f"[objectives] minimise: unknown objective 'power'; known: {KNOWN}",
    ),
    (
        'minimise = ["error", "luts"]',
        "minimise = []",
        "[objectives] minimise is empty; give at least one choice",
    ),
    (
        'minimise = ["error", "luts"]',
        'minimise = ["error", "own.py:cost"]',
        "[objectives] minimise: objective own.py:cost: no such file as own.py",
    ),
    (
        "reference = { error = 0.5, luts = 9000 }",
        "reference = { error = 0.5 }",
        "[objectives.reference] luts is missing; give it for every objective",
    ),
    (
        "reference = { error = 0.5, luts = 9000 }",
        "reference = { error = 0.5, luts = 9000, ffs = 1 }",
        "[objectives.reference] unknown key 'ffs'; known: error, luts",
    ),
    ("fit = 0.8", "fit = 1.5", "[constraints] fit must be above 0 and at most 1, not 1.5"),
    (
        "latency_cycles = 3000",
        "latency_cycles = 0",
        "[constraints] latency_cycles must be a number above 0, not 0",
    ),
    (
        "latency_cycles = 3000",
        "latency = 3000",
        f"[constraints]: unknown objective 'latency'; known: fit, {KNOWN}",
    ),
    ('name = "digits"', 'name = "faces"', "[data] name must be one of digits, not 'faces'"),
    (
        'name = "digits"',
        "seed = 4294967296",
        "[data] seed must be at most 4294967295, not 4294967296",
    ),
    (
        'name = "digits"',
        'images = "x.npz"',
        "x.npz: no such file",
    ),
    (
        'name = "digits"',
        'name = "digits"\nimages = "x.npz"',
        "[data] name and images exclude each other; give one of them",
    ),
]


@pytest.mark.parametrize(("old", "new", "told"), REST)
def test_bad_input(tmp_path, old, new, told):
    assert message(tmp_path, old, new) == f"space.toml: {told}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "[network] family is missing; give one of chain, residual"),
        (
            "[engine]\nx = 1",
            (
                "unknown table [engine]; known: data, network, train, hardware, plans, "
                "objectives, constraints, search"
            ),
        ),
        ("network = 3", "[network] must be a table"),
        (
            SPACE.partition("[plans")[0] + "[[plans]]",
            "[plans] must hold tables [plans.NAME.default]",
        ),
        (
            "[network",
            (
                "not a TOML file: Expected ']' at the end of a table declaration (at end of "
                "document)"
            ),
        ),
    ],
)
def test_bad_file(tmp_path, text, told):
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)

    assert str(caught.value) == f"space.toml: {told}"


def test_no_file(tmp_path):
    with pytest.raises(InputError, match=r"^gone.toml: no such search space$"):
        load_space(tmp_path / "gone.toml")


def test_names_from_the_file_are_shown_safely(tmp_path):
    told = message(tmp_path, "blocks = 1", 'blocks = 1\n"\\u001b[31m" = 3')

    assert told.startswith(r"space.toml: [network] unknown key '\\x1b[31m'")


def own(folder, code):
    (folder / "own.py").write_text(code)
    text = SPACE.replace('minimise = ["error", "luts"]', 'minimise = ["error", "own.py:cost"]')
    return read(folder, text.replace("luts = 9000", '"own.py:cost" = 9'))


def test_an_objective_of_ones_own_counts_with_its_file(tmp_path):
    first = own(tmp_path, "def cost(graph, design): return 1.0")
    other = own(tmp_path, "def cost(graph, design): return 2.0")

    assert first.objectives == ("error", "own.py:cost")
    assert first.digest != other.digest
    assert load_own("own.py:cost", other.folder)(None, None) == 2.0
    assert "_objective_own" not in sys.modules


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("", "objective own.py:cost: the file defines no such name"),
        (
            "cost = 3",
            "objective own.py:cost: is a int; it must be a function of the graph and the design",
        ),
        (
            "1 / 0",
            ("objective own.py:cost: running the file failed: ZeroDivisionError: division by zero"),
        ),
    ],
)
def test_an_objective_that_cannot_be_called(tmp_path, code, told):
    found = own(tmp_path, code)
    with pytest.raises(InputError) as caught:
        load_own("own.py:cost", found.folder)

    assert str(caught.value) == told


def test_the_space_of_the_document_is_as_large_as_it_says(tmp_path):
    text = DOCUMENT.read_text()
    (example,) = re.findall(r"^```toml\n(\[data\].*?)^```", text, re.MULTILINE | re.DOTALL)

    assert f"This one has {read(tmp_path, example).size:,} candidates" in " ".join(text.split())
