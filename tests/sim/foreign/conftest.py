"""The designs and benches of this folder, opened once."""

from pathlib import Path

import pytest

from tercet.sim.foreign.testbed import ForeignTestbed

HERE = Path(__file__).parent


def opened(name: str, **options) -> ForeignTestbed:
    """The testbed of NAME.v or NAME.sv with NAME_bench.py."""
    (verilog,) = (path for path in HERE.glob(f"{name}.*v"))
    bench = HERE / f"{name}_bench.py"
    return ForeignTestbed.open([verilog], top=name, clock="clk", bench=bench, **options)


@pytest.fixture(scope="session")
def store() -> ForeignTestbed:
    """Memory with byte enables, asynchronous reset, an 80-bit register, an error flag, stalls."""
    return opened("store", flag="err")


@pytest.fixture(scope="session")
def smooth() -> ForeignTestbed:
    """SystemVerilog: enumeration, packed struct, generate, ROM; the bench accepts small errors."""
    return opened("smooth")


@pytest.fixture(scope="session")
def chain() -> ForeignTestbed:
    """A control: every bit is an output that the bench compares in every cycle."""
    return opened("chain")


@pytest.fixture(scope="session")
def odd() -> ForeignTestbed:
    """Verilog of many habits; the bench accepts whatever comes."""
    return opened("odd")
