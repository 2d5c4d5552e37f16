"""Costs of networks with branches: registers, memories and products of joins and forks."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tercet.flow.costs import ffs
from tercet.flow.costs.joins import fork_registers
from tercet.flow.costs.layer import layer_resources, operand_lanes
from tercet.flow.emit import TOP, emit
from tercet.hw.config import INPUT
from tercet.hw.configure import configure
from tercet.hw.join_config import JoinConfig
from tercet.sim import sites


def verilog_registers(layers, folder):
    """{part: {role: bits}} of the Verilog: layers, forks with them, `to_<layer>` converters."""
    found = {}
    for register in sites.enumerate(emit(layers, Path(folder)), TOP):
        found.setdefault(register.layer, Counter())[register.role] += register.width
    return found


def estimated_registers(layers):
    """As `verilog_registers`, by closed form."""
    found = {}
    readers = Counter(source for layer in layers for source in layer.sources)
    parts = [("input", fork_registers(readers[INPUT], checked=False))]
    for layer, lanes in zip(layers, operand_lanes(layers), strict=True):
        parts.append((layer.name, ffs.registers(layer)))
        parts.append((layer.name, fork_registers(readers[layer.name], checked=layer.checked)))
        for port, width in enumerate(lanes):
            name = f"to_{layer.name}" + f"_{port}" * isinstance(layer, JoinConfig)
            parts.append((name, ffs.converter(width, layer, port)))
    for name, registers in parts:
        for register in registers:
            if register.total:
                found.setdefault(name, Counter())[register.role] += register.total
    return found


def check(layers, folder):
    found = verilog_registers(layers, folder)
    total = sum(sum(roles.values()) for roles in found.values())

    assert estimated_registers(layers) == found
    assert sum(one.rtl_ffs for one in layer_resources(layers, "ecp5")) == total


@pytest.mark.parametrize("seed", range(10))
def test_registers_of_networks_with_branches(tmp_path, random_dag, seed):
    check(configure(*random_dag(np.random.default_rng(seed))), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(700, 760))
def test_registers_of_more_networks_with_branches(tmp_path, random_dag, seed):
    check(configure(*random_dag(np.random.default_rng(seed))), tmp_path)
