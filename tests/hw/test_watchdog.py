"""The watchdog: passes what is right, and completes every frame that the network loses or adds."""

import pytest
from amaranth.sim import Simulator

from tercet.hw.watchdog import Watchdog
from tercet.hw.watchdog_config import WatchdogConfig

BEATS, LIMIT = 3, 12


class Play:
    """A watchdog around a network that is a list of what it offers, cycle by cycle.

    `offered` are beats (data, first, last, err) or None for a pause, one a cycle while the watchdog
    does not drain; `sent` the input's (first, last) or None. `ready` is the output's, by cycle.
    """

    def __init__(self, offered, sent, *, on_error=False, ready=None, cycles=60, flip=None):
        self.unit = Watchdog(WatchdogConfig(BEATS, 3, LIMIT, on_error), 1, 8)
        self.offered, self.sent, self.flip = list(offered), list(sent), flip
        self.ready = ready or [1] * cycles
        self.out, self.drained, self.registers = [], [], []
        sim = Simulator(self.unit)
        sim.add_clock(1e-8)
        sim.add_testbench(self._bench)
        sim.run()

    async def _bench(self, ctx):
        unit = self.unit
        for cycle, ready in enumerate(self.ready):
            ctx.set(unit.o.ready, ready)
            drain = ctx.get(unit.drain)
            beat = self.offered[0] if self.offered and not drain else None
            ctx.set(unit.i.valid, beat is not None)
            if beat:
                for field, value in zip(("data", "first", "last", "err"), beat, strict=True):
                    ctx.set(unit.i.payload[field], value)
            word = self.sent[0] if self.sent else None
            ctx.set(unit.valid, word is not None)
            ctx.set(unit.ready, not drain)
            if word:
                ctx.set(unit.first, word[0])
                ctx.set(unit.last, word[1])
            if self.flip and self.flip[0] == cycle:
                self._strike(ctx)
            taken = ctx.get(unit.i.ready) and beat
            accepted = word and (ctx.get(unit.take) if drain else True)
            if ctx.get(unit.o.valid) and ready:
                payload = unit.o.payload
                self.out.append(
                    tuple(ctx.get(payload[f]) for f in ("data", "first", "last", "err"))
                )
            self.drained.append(drain)
            await ctx.tick()
            if drain:
                self.offered = [one for one in self.offered if one is None or one[0] >= 100]
            elif self.offered and (beat is None or taken):
                self.offered.pop(0)
            if self.sent and (word is None or accepted):
                self.sent.pop(0)

    def _strike(self, ctx):
        _, register, bit = self.flip
        bits = register.as_unsigned()
        ctx.set(bits, ctx.get(bits) ^ 1 << bit)


def frame(start, **change):
    """Three beats of a frame, `change` of field by number of the beat."""
    beats = [[start + k, int(k == 0), int(k == BEATS - 1), 0] for k in range(BEATS)]
    for field, beat in change.items():
        beats[beat][("first", "last", "err").index(field) + 1] ^= 1
    return [tuple(beat) for beat in beats]


def words(frames):
    """Two input beats for each frame."""
    return [(1, 0), (0, 1)] * frames


def frames(out):
    """The frames of what left: (data of the beats, whether any is flagged), each well formed."""
    assert len(out) % BEATS == 0
    found = []
    for at in range(0, len(out), BEATS):
        part = out[at : at + BEATS]
        assert [(one[1], one[2]) for one in part] == [(1, 0), (0, 0), (0, 1)]
        found.append(([one[0] for one in part], any(one[3] for one in part)))
    return found


@pytest.mark.parametrize("on_error", [False, True])
def test_what_is_right_passes_in_its_own_cycle(on_error):
    offered = [None] * 4 + frame(10) + [None] * 2 + frame(20)

    found = Play(offered, words(2), on_error=on_error)

    assert frames(found.out) == [([10, 11, 12], False), ([20, 21, 22], False)]
    assert not any(found.drained)


def test_a_lost_frame_is_flagged_after_the_limit_and_the_next_ones_are_right():
    offered = [None] * 4 + frame(10) + [None] * 30 + frame(110)
    sent = [*words(2), *[None] * 25, *words(1)]

    found = Play(offered, sent, cycles=90)

    (first, second, third) = frames(found.out)
    assert first == ([10, 11, 12], False)
    assert second[1]
    assert third == ([110, 111, 112], False)
    assert found.drained.index(1) > LIMIT


def test_a_frame_that_nobody_sent_does_not_leave():
    offered = [None] * 4 + frame(10) + frame(20) + [None] * 20 + frame(110)
    sent = [*words(1), *[None] * 20, *words(1)]

    found = Play(offered, sent)

    assert frames(found.out) == [([10, 11, 12], False), ([110, 111, 112], False)]
    assert any(found.drained)


@pytest.mark.parametrize("change", [{"first": 1}, {"last": 1}, {"last": 2}])
def test_a_beat_out_of_place_flags_its_frame(change):
    offered = [None] * 4 + frame(10, **change) + [None] * 30 + frame(110)
    sent = [*words(1), *[None] * 25, *words(1)]

    found = frames(Play(offered, sent, cycles=90).out)

    assert [flagged for _, flagged in found] == [True, False]
    assert found[1][0] == [110, 111, 112]


def test_the_rest_of_a_frame_that_had_begun_is_swallowed_and_flagged():
    sent = [(1, 0), (0, 1), (1, 0), *[None] * 20, (0, 1), *words(1)]
    offered = [None] * 3 + frame(10, last=0) + [None] * 4 + frame(110)

    found = frames(Play(offered, sent, cycles=90).out)

    assert [flagged for _, flagged in found] == [True, True, False]


@pytest.mark.parametrize("on_error", [False, True])
def test_a_flagged_beat_empties_the_network_where_control_is_checked(on_error):
    offered = [None] * 4 + frame(10, err=1) + frame(20) + [None] * 20 + frame(110)
    sent = [*words(2), *[None] * 20, *words(1)]

    found = Play(offered, sent, on_error=on_error)

    assert [flagged for _, flagged in frames(found.out)] == [True, on_error, False]
    assert any(found.drained) == on_error


def test_a_stalled_output_is_no_silence():
    ready = [1] * 8 + [0] * (3 * LIMIT) + [1] * 20

    found = Play([None] * 4 + frame(10) + frame(20), words(2), ready=ready)

    assert [flagged for _, flagged in frames(found.out)] == [False, False]
    assert not any(found.drained)


def test_a_source_that_pauses_in_a_frame_is_no_silence():
    sent = [(1, 0), *[None] * (3 * LIMIT), (0, 1)]

    found = Play([None] * (3 * LIMIT + 3) + frame(10), sent)

    assert frames(found.out) == [([10, 11, 12], False)]


def test_every_upset_of_its_own_registers_is_outvoted(registers):
    offered, sent = [None] * 4 + frame(10) + [None] * 2 + frame(20), words(2)
    right = Play(offered, sent).out
    count = len(registers)

    for index in range(count):
        for bit in range(len(registers[index])):
            registers.clear()
            struck = Play(offered, sent, flip=(6, LateRegister(registers, index), bit))
            assert struck.out == right, (index, bit)

    assert count == 3 * 5


class LateRegister:
    """A register of a watchdog that is elaborated later, by its place in the list."""

    def __init__(self, registers, index):
        self.registers, self.index = registers, index

    def as_unsigned(self):
        return self.registers[self.index].as_unsigned()
