"""A space measured in full: rows that survive a stop, and objectives that are looked up."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from tercet.flow.search.loop import run
from tercet.flow.search.skeleton import skeleton
from tercet.flow.search.space_file import load_space
from tercet.flow.search.tabular import Table, hardware, networks
from tercet.flow.search.tabular_rows import fill
from tercet.quant.errors import ClaimError, InputError
from tercet.quant.ir import Graph

SPACE = """
[network]
family = "chain"
stages = [1, 2]
blocks = 1
width = [2, 3]
kernel = 1
[train]
epochs = 1
[hardware]
interval = [64, 144]
multiplier = ["dsp", "lut"]
[objectives]
minimise = ["error", "luts"]
[search]
algorithm = "random"
population = 8
evaluations = 24
"""
NETWORKS, CIRCUITS = 2 + 4, 4


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    path = tmp_path_factory.mktemp("space") / "space.toml"
    path.write_text(SPACE)
    return load_space(path)


@dataclass(frozen=True)
class Trained:
    graph: Graph
    error: float


class Fake:
    """Networks with random weights; a wide one has no LUT multipliers."""

    trained = 0
    broken = False

    def __init__(self, space, folder):
        self.space = space

    def train_network(self, spec):
        if Fake.broken and len(spec.stages) == 2:
            raise ValueError("no such\nnetwork")
        Fake.trained += 1
        graph = skeleton(spec)
        kind = replace(graph.input_type, scale=1 / graph.input_type.hi)
        return Trained(
            replace(graph, input_type=kind), 1 / sum(stage.width for stage in spec.stages)
        )

    def evaluate(self, candidate):
        widths = [stage.width for stage in candidate.network.stages]
        if widths == [3] and candidate.multiplier == "lut":
            raise InputError("layer fc: no room")
        return {"error": 1 / sum(widths), "luts": float(sum(widths) * 1000 // candidate.interval)}


@pytest.fixture(scope="module")
def filled(space, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    return fill(space, folder, Fake), folder


def test_lists_each_network_and_each_circuit_once(space):
    rows = networks(space)[:, None] + hardware(space)
    every = {tuple(row) for row in rows.reshape(-1, len(space.genes)).tolist()}

    assert (len(networks(space)), len(hardware(space))) == (NETWORKS, CIRCUITS)
    assert len(every) == space.size == NETWORKS * CIRCUITS
    assert np.array_equal(space.canonical(np.array(sorted(every))), np.array(sorted(every)))


def test_holds_what_every_candidate_was_measured_to_be(space, filled):
    table, _ = filled
    fake = Fake(space, None)
    for row in networks(space):
        for circuit in hardware(space):
            candidate = space.decode(row + circuit)
            try:
                expected = fake.evaluate(candidate)
            except InputError:
                with pytest.raises(InputError, match="circuit was refused"):
                    table(candidate)
                continue

            assert table(candidate) == expected
            assert table.lookup((row + circuit)[None]).tolist() == [list(expected.values())]


def test_measures_change_rates_and_topology_of_a_network(filled):
    columns = filled[0].columns

    assert columns["depth"].tolist() == [2, 2, 3, 3, 3, 3]
    assert len(set(columns["asi_per_fault"].tolist())) == NETWORKS
    for name in ("ccr_maps_1e-3", "ccr_maps_3e-3", "ccr_weights_1e-3"):
        assert ((columns[name] > 0) & (columns[name] < 1)).all()
    assert (columns["ccr_maps_3e-3"] > columns["ccr_maps_1e-3"]).all()
    assert (columns["ccr_map_bit"] > 0).all()
    assert (columns["ccr_map_bit"] < columns["ccr_maps_3e-3"]).all()


def test_goes_on_with_the_rows_that_are_missing(space, filled, tmp_path):
    table, folder = filled
    (tmp_path / "rows").mkdir()
    for path in sorted((folder / "rows").iterdir())[:4]:
        (tmp_path / "rows" / path.name).write_bytes(path.read_bytes())
    before, seen = Fake.trained, []

    again = fill(space, tmp_path, Fake, progress=lambda done, total: seen.append((done, total)))

    assert Fake.trained - before == NETWORKS - 4
    assert seen == [(5, NETWORKS), (6, NETWORKS)]
    assert np.array_equal(again.values, table.values, equal_nan=True)
    assert all(np.array_equal(again.columns[name], table.columns[name]) for name in table.columns)


def test_a_network_that_fails_ends_in_its_reason_and_keeps_the_others(space, tmp_path, monkeypatch):
    monkeypatch.setattr(Fake, "broken", True)

    with pytest.raises(ClaimError, match="cannot be measured: ValueError: no such network"):
        fill(space, tmp_path, Fake)

    assert len(list((tmp_path / "rows").iterdir())) == 2


def test_takes_networks_spread_over_the_space(space, tmp_path):
    table = fill(space, tmp_path, Fake, limit=2)

    assert table.encodings.tolist() == [networks(space)[0].tolist(), networks(space)[-1].tolist()]
    with pytest.raises(InputError, match="no such network"):
        table.lookup(networks(space)[1:2])


def test_a_search_on_the_table_finds_what_was_measured(space, filled):
    found = run(space, filled[0]).archive

    assert len(found.records) == space.size
    assert sum(record.failure is not None for record in found.records) == 2
    assert all(
        record.objectives == filled[0](space.decode(np.array(record.encoding)))
        for record in found.feasible
    )


def test_survives_its_file(space, filled, tmp_path):
    filled[0].save(tmp_path / "table.npz")
    again = Table.load(tmp_path / "table.npz", space)

    assert again.names == filled[0].names
    assert np.array_equal(again.values, filled[0].values, equal_nan=True)
    assert np.array_equal(again.columns["adcr"], filled[0].columns["adcr"])


def test_refuses_the_table_of_another_space(space, filled, tmp_path):
    filled[0].save(tmp_path / "table.npz")
    other = replace(space, train=replace(space.train, epochs=2))

    with pytest.raises(InputError, match=r"table\.npz: is the table of another space"):
        Table.load(tmp_path / "table.npz", other)
    with pytest.raises(InputError, match="holds rows of another space; give another folder"):
        fill(other, filled[1], Fake)


def test_serves_any_algorithm_of_its_space(space, filled, tmp_path):
    filled[0].save(tmp_path / "table.npz")
    other = replace(space, search=replace(space.search, algorithm="nsga3", seed=5))

    assert len(Table.load(tmp_path / "table.npz", other)) == NETWORKS


def test_refuses_a_file_whose_arrays_do_not_match(space, filled, tmp_path):
    table = filled[0]
    replace(table, values=table.values[:-1]).save(tmp_path / "short.npz")

    with pytest.raises(InputError, match=r"short\.npz: arrays of a table do not match"):
        Table.load(tmp_path / "short.npz", space)


def test_refuses_a_row_that_cannot_be_read(space, tmp_path):
    fill(space, tmp_path, Fake)
    path = next(iter((tmp_path / "rows").iterdir()))
    path.write_text(json.dumps({"measured": 1})[:5])

    with pytest.raises(InputError, match=f"{path.name}: cannot be read; remove it"):
        fill(space, tmp_path, Fake)


def test_refuses_a_candidate_of_another_space(space, filled):
    candidate = replace(space.decode(networks(space)[0]), interval=7)

    with pytest.raises(InputError, match="knows no interval 7"):
        filled[0](candidate)


def test_refuses_a_space_too_large_to_list(space):
    genes = tuple(
        replace(gene, choices=tuple(range(1, 2001))) if gene.name.startswith("width") else gene
        for gene in space.genes
    )

    with pytest.raises(InputError, match="a table takes at most 1048576: take choices away"):
        networks(replace(space, genes=genes))
