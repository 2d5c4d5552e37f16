"""A bench as it is: recorded exactly, or refused with one line."""

from pathlib import Path

import numpy as np
import pytest

from tercet.quant.errors import ClaimError, InputError
from tercet.sim.foreign import bench, source

pytest.importorskip("pyosys")
pytest.importorskip("cocotb")
pytestmark = pytest.mark.verilator

HERE = Path(__file__).parent
HEAD = """import random
import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge, Timer

@cocotb.test()
async def only(dut):
    dut.rst.value, dut.d.value = 1, 0
"""
CLOCK = "    Clock(dut.clk, 10, 'ns').start()\n"


@pytest.fixture(scope="module")
def chain_source():
    return source.read([HERE / "chain.v"], "chain", "clk")


@pytest.fixture
def record(chain_source, tmp_path):
    def run(text: str, **options):
        path = tmp_path / "some_bench.py"
        path.write_text(text)
        return bench.record(bench.build(chain_source, path, **options))

    return run


def test_a_row_is_what_a_flip_flop_samples(record):
    text = HEAD + CLOCK
    text += "    await RisingEdge(dut.clk)\n    dut.rst.value = 0\n"
    text += "    for d in (1, 0, 1, 1, 0):\n        dut.d.value = d\n"
    text += "        await RisingEdge(dut.clk)\n"

    trace = record(text)

    assert trace.cycles == 6  # a task that waits for an edge wakes before the edge is evaluated
    assert trace.column("d")[:, 0].tolist() == [0, 1, 0, 1, 1, 0]
    assert trace.column("rst")[:, 0].tolist() == [1, 0, 0, 0, 0, 0]
    q = trace.column("q")
    assert q.shape == (6, 12)
    assert q[:, 0].tolist() == [0, 0, 1, 2, 5, 11]


def test_what_the_clock_does_after_the_bench_is_no_part_of_the_run(record):
    one = record(HEAD + CLOCK + "    await Timer(42, 'ns')\n")
    two = record(HEAD + CLOCK + "    await Timer(48, 'ns')\n")

    assert one.cycles == two.cycles == 6


def test_all_tests_of_a_module_are_one_run(record):
    second = "@cocotb.test()\nasync def second(dut):\n    dut.d.value = 1\n"

    trace = record(
        HEAD
        + CLOCK
        + "    await Timer(42, 'ns')\n\n"
        + second
        + CLOCK
        + "    await Timer(20, 'ns')\n"
    )

    assert trace.column("d")[:, 0].tolist()[-1] == 1
    assert trace.cycles > 6


def test_the_bench_sees_registers_and_modules_beside_it(record, tmp_path):
    (tmp_path / "some_helper.py").write_text("LEVEL = 1\n")
    text = "import some_helper\n" + HEAD + CLOCK + "    dut.d.value = some_helper.LEVEL\n"
    text += "    dut.rst.value = 0\n    await Timer(40, 'ns')\n    assert dut.q.value[0] == 1\n"

    assert record(text).cycles == 5


def test_a_bench_that_fails_without_a_fault_is_a_claim_that_failed(record):
    with pytest.raises(ClaimError, match=r"some_bench\.py: without a fault only fails: 3 is not 4"):
        record(HEAD + CLOCK + "    await Timer(40, 'ns')\n    assert 3 == 4, '3 is not 4'\n")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("LEVEL = 1\n", {}, "no test; write `@cocotb.test"),
        ("import absent_module\n", {}, "cannot be run: .*No module named 'absent_module'"),
        (HEAD + "    dut.absent.value = 1\n", {}, "contains no child object named absent"),
        (HEAD + "    await Timer(40, 'ns')\n", {}, r"no rising edge of clk; start Clock\(dut.clk"),
        (
            HEAD + CLOCK + "    while True:\n        await RisingEdge(dut.clk)\n",
            {"max_cycles": 200},
            "did not end in 200 cycles; end the bench or raise --max-cycles",
        ),
        (
            "import os\n" + HEAD + CLOCK + "    for bit in os.urandom(32):\n"
            "        dut.d.value = bit & 1\n        await RisingEdge(dut.clk)\n",
            {},
            "two runs differ; take random numbers from `random`",
        ),
        (
            HEAD.replace("test()", "test(skip=True)") + CLOCK,
            {},
            "all its tests are skipped",
        ),
        (HEAD, {"flag": "error"}, "module chain has no output error; it has: q"),
    ],
)
def test_a_bench_that_cannot_be_used_is_one_line(record, text, options, message):
    with pytest.raises(InputError, match=message) as caught:
        record(text, **options)

    assert "\n" not in str(caught.value)


def test_a_bench_that_waits_for_ever_without_a_clock_is_given_up(record, monkeypatch):
    monkeypatch.setattr(bench, "WALL_S", 2)

    with pytest.raises(InputError, match="did not end in 2 s"):
        record(HEAD + "    while True:\n        await Timer(1, 'us')\n")


def test_a_flag_that_is_raised_without_a_fault_is_refused(record):
    text = HEAD + CLOCK + "    dut.rst.value, dut.d.value = 0, 1\n    await Timer(40, 'ns')\n"

    with pytest.raises(InputError, match="q is raised in the run without a fault"):
        record(text, flag="q")


def test_seeded_randomness_is_the_same_in_every_run(record):
    text = HEAD + CLOCK + "    dut.rst.value = 0\n    for _ in range(40):\n"
    text += "        dut.d.value = random.getrandbits(1)\n        await RisingEdge(dut.clk)\n"

    one, two = record(text), record(text)

    assert 0 < one.column("d").sum() < 40
    np.testing.assert_array_equal(one.stimulus, two.stimulus)


@pytest.mark.parametrize("name", ["absent.py", "no-identifier.py", "bench.txt"])
def test_a_bench_is_a_python_file(chain_source, tmp_path, name):
    if name != "absent.py":
        (tmp_path / name).write_text("")

    with pytest.raises(InputError, match=r"no such bench|a bench is a file NAME\.py"):
        bench.build(chain_source, tmp_path / name)
