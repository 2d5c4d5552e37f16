"""Campaigns in SQLite: whole batches or none, one writer, one line for what goes wrong."""

import dataclasses
import sqlite3

import numpy as np
import pytest

from tercet.quant.errors import InputError
from tercet.sim import store
from tercet.sim.store import Batch, Shelf
from tercet.sim.targets import Targets

HEADER = {"arguments": {"engine": "native", "seed": 1}, "design": "d"}


def batch(count, events=1):
    total = count * events
    of_event = {key: np.arange(total) for key in ("site", "bit", "start")}
    of_event |= {"mode": np.zeros(total, int), "stop": np.full(total, 2**32 - 1)}
    rest = {key: np.arange(count) % 7 for key in ("input", "outcome", "disorder")}
    return Batch(events=np.full(count, events), inferences=np.arange(count) - 1, **of_event, **rest)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "campaigns" / "native-1" / "campaign.sqlite"


@pytest.fixture
def shelf(path, fake):
    with Shelf(path) as opened:
        opened.create(HEADER, Targets(fake).sites)
        yield opened


def test_what_was_kept_comes_back(shelf):
    shelf.append(batch(5), 0.5)
    shelf.append(batch(3, events=2), 0.25)
    table = shelf.table()

    assert shelf.header == HEADER
    assert (shelf.experiments, shelf.seconds) == (8, 0.75)
    assert table.site.tolist() == [0, 1, 2, 3, 4, 0, 2, 4]
    assert table.cycle.tolist() == table.site.tolist()
    assert table.inferences.tolist() == [-1, 0, 1, 2, 3, -1, 0, 1]


def with_detection(count):
    known = {"detection_cycles": np.arange(count) - 1, "critical": np.arange(count) % 2}
    return dataclasses.replace(batch(count), **known)


def test_detection_comes_back_where_every_batch_has_it(shelf):
    shelf.append(with_detection(4), 1.0)
    table = shelf.table()
    assert table.detection_cycles.tolist() == [-1, 0, 1, 2]
    assert table.critical.tolist() == [0, 1, 0, 1]
    assert shelf.experiment(2).detection_cycles.tolist() == [1]
    shelf.append(batch(2), 1.0)

    assert shelf.table().detection_cycles is None
    assert shelf.table().outcome.tolist() == [0, 1, 2, 3, 0, 1]
    assert shelf.experiment(5).critical is None


def test_a_campaign_of_an_earlier_version_is_read_and_goes_on(shelf, path):
    shelf.append(with_detection(4), 1.0)
    for name in ("detection_cycles", "critical"):
        shelf._file.execute(f"alter table batch drop column {name}")
    assert shelf.table().detection_cycles is None
    assert shelf.experiment(3).critical is None
    shelf.__exit__(None, None, None)
    with Shelf(path) as again:
        again.append(with_detection(3), 1.0)

        assert again.table().detection_cycles is None
        assert again.experiment(5).detection_cycles.tolist() == [0]


def test_one_experiment_with_all_its_events(shelf):
    shelf.append(batch(5), 0.5)
    shelf.append(batch(3, events=2), 0.25)
    found = shelf.experiment(6)

    assert found.start.tolist() == [2, 3]
    assert found.stop.tolist() == [2**32 - 1] * 2
    assert found.outcome.tolist() == [1]
    for number in (-1, 8):
        with pytest.raises(InputError, match=f"no experiment {number}; it has 8"):
            shelf.experiment(number)


def test_a_second_writer_waits_for_nothing(shelf, path):
    with pytest.raises(InputError, match="another process runs this campaign"):
        Shelf(path)


def test_a_finished_campaign_is_one_file_that_anyone_reads(shelf, path, tmp_path):
    shelf.append(batch(4), 1.0)
    shelf.finish({"id": "native-1", "experiments": 4})
    shelf.__exit__(None, None, None)
    report, table = store.load(tmp_path, "native-1")

    assert report["experiments"] == 4
    assert len(table.outcome) == 4
    assert [p.name for p in path.parent.iterdir()] == ["campaign.sqlite"]
    with sqlite3.connect(path) as file:
        rows = file.execute("select name, role, bits from site where kind = 'memory'").fetchall()
    assert rows == [("a.weights", "weight", 12), ("b.window.store", "window", 10)]


def test_a_full_disk_keeps_the_whole_batches(shelf):
    shelf.append(batch(10), 1.0)
    pages = shelf._file.execute("pragma page_count").fetchone()[0]
    shelf._file.execute(f"pragma max_page_count = {pages}")
    rng = np.random.default_rng(0)
    large = dataclasses.replace(batch(50_000), bit=rng.integers(0, 1 << 30, 50_000))
    with pytest.raises(InputError, match=r"full.*free some space and give the same") as caught:
        shelf.append(large, 1.0)
    shelf._file.execute("pragma max_page_count = 1000000")
    shelf.append(batch(2), 1.0)

    assert "\n" not in str(caught.value)
    assert shelf.experiments == 12


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "campaigns").write_text("a file")

    with pytest.raises(InputError, match="cannot write the campaign"):
        Shelf(tmp_path / "campaigns" / "x" / "campaign.sqlite")


def test_a_file_that_is_no_campaign_is_named(path):
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database, but long enough to be taken for one" * 50)

    with pytest.raises(InputError, match=r"delete .* and run the campaign again"):
        Shelf(path)


def test_a_damaged_batch_is_an_input_error(shelf):
    shelf.append(batch(3), 1.0)
    shelf._file.execute("update batch set outcome = x'00'")

    with pytest.raises(InputError, match="damaged"):
        shelf.table()


def test_a_report_that_is_no_json_is_an_input_error(shelf):
    shelf.finish({"id": "native-1"})
    shelf._file.execute("update campaign set value = '{' where key = 'report'")

    with pytest.raises(InputError, match="report: not JSON; delete the campaign"):
        _ = shelf.report


def test_unfinished_and_unknown_campaigns_are_named(shelf, tmp_path):
    shelf.append(batch(3), 1.0)
    shelf.__exit__(None, None, None)

    with pytest.raises(InputError, match="is not finished; resume it"):
        store.load(tmp_path, "native-1")
    for name in ("none", "../../etc", "."):
        with pytest.raises(InputError, match=r"no campaign .*; there are native-1"):
            store.load(tmp_path, name)


def test_the_id_depends_on_all_that_was_asked():
    other = HEADER | {"design": "e"}

    assert store.campaign_id(HEADER) == store.campaign_id(dict(reversed(HEADER.items())))
    assert store.campaign_id(HEADER) != store.campaign_id(other)
    assert store.campaign_id(HEADER).startswith("native-")
