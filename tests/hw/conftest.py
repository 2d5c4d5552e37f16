"""Fixtures of the circuits' tests: the stream bench, registers by name."""

import pytest

from tercet.hw.site import Site


@pytest.fixture(scope="session")
def bench(helper):
    """The module tests/hw/bench.py: run_stream, run_network, Upset, elements, pack."""
    return helper("hw", "bench")


@pytest.fixture
def registers(monkeypatch):
    """The registers that are made during the test, in order; a simulation makes its own."""
    made, make = [], Site.register

    def record(self, *args, **options):
        made.append(make(self, *args, **options))
        return made[-1]

    monkeypatch.setattr(Site, "register", record)
    return made
