"""The loops of docs/search.md, as they stand there: somebody else's engine, our objectives."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest

PAGE = Path(__file__).parents[3] / "docs" / "search.md"
LINES = 20
SPACE = """
[network]
family = "chain"
stages = 1
blocks = 1
width = [2, 3]
kernel = [1, 3]
[train]
epochs = 1
[hardware]
interval = [64, 256]
multiplier = ["dsp", "lut"]
[objectives]
minimise = ["error", "vulnerable_bit_cycles", "luts"]
"""


def block(word):
    """The Python block of the section that holds `word`."""
    section = PAGE.read_text().split("\n## From your own Optuna or pymoo loop\n")[1]
    section = section.split("\n## ")[0]
    (found,) = (b for b in re.findall(r"```python\n(.*?)```", section, re.DOTALL) if word in b)
    assert len([line for line in found.splitlines() if line]) <= LINES
    return found


def run(text):
    """The names that the text defines."""
    names = {"__name__": "user"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the engines
        exec(compile(text, "docs/search.md", "exec"), names)
    return names


def test_optuna_chooses_a_network_and_its_circuits():
    pytest.importorskip("optuna")
    study = run(block("optuna"))["study"]

    values = np.array([trial.values for trial in study.trials])
    assert values.shape == (4, 4)
    assert (values > 0).all()
    assert (values[:, 3] <= [trial.params["cycles"] for trial in study.trials]).all()
    assert 1 <= len(study.best_trials) <= 4


def test_pymoo_chooses_candidates_of_a_space(tmp_path, monkeypatch):
    pytest.importorskip("pymoo")
    (tmp_path / "SPACE.toml").write_text(SPACE)
    monkeypatch.chdir(tmp_path)
    names = run(block("pymoo"))

    space, front = names["space"], names["front"]
    assert np.array_equal(space.canonical(front.X), front.X)
    for encoding, values in zip(front.X, front.F, strict=True):
        again = names["evaluator"].evaluate(space.decode(encoding))
        assert values.tolist() == list(again.values())
    assert 1 <= len(list((tmp_path / "networks" / "networks").iterdir())) <= 4
