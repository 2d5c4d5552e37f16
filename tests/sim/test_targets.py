"""Every target number has one owner; memories find their role and layer."""

import pytest

from tercet.sim.targets import Targets, memory_role


def test_every_target_has_its_site_and_bit(fake):
    targets = Targets(fake)

    assert [site.name for site in targets.sites] == [
        *("a.acc_0", "a.acc_1", "a.step", "b.acc_0", "b.window.x", "a.weights", "b.window.store")
    ]
    assert len(targets.owner) == fake.space.size == 46
    for number, site in enumerate(targets.sites):
        assert targets.owner[site.targets].tolist() == [number] * len(site.targets)
        assert targets.position[site.targets].tolist() == list(range(len(site.targets)))


def test_a_memory_belongs_to_the_layer_of_its_neighbours(fake):
    weights, store = Targets(fake).sites[-2:]

    assert (weights.kind, weights.role, weights.layer) == ("memory", "weight", "a")
    assert (store.kind, store.role, store.layer, store.lane) == ("memory", "window", "b", None)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("conv1.lane_0_r2.weights", "weight"),
        ("fc.window.store_0", "window"),
        ("pool.fifo.store", "fifo"),
        ("add.skip_1.store", "fifo"),
        ("conv1.checksum.row", "checker"),
        ("weights_0.rom", "weight"),
        ("history", "memory"),
    ],
)
def test_memory_roles_come_from_the_path(name, role):
    assert memory_role(name) == role
