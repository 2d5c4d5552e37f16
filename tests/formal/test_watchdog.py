# amaranth: UnusedElaboratable=no
"""The watchdog: its own upsets show nothing, and no network can spoil the frames behind it."""

import functools
from unittest import mock

import pytest
from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tercet.hw import watchdog
from tercet.hw.control import ControlGroup
from tercet.hw.site import Site
from tercet.hw.watchdog_config import WatchdogConfig

from .miter import Claim, gone_after
from .proof import Proof, first_replica_only, name, prove, refute

CONFIG = WatchdogConfig(beats=2, frames=2, limit=3, on_error=True)
WORDS = 2
PATIENCE = CONFIG.limit + 3
"""Cycles within which a beat leaves: the watchdog's limit, and its drain."""


class Bare(watchdog.Watchdog):
    """The watchdog without replicas."""

    def elaborate(self, platform):
        bare = lambda m, site, control: ControlGroup(m, site, "none")  # noqa: E731
        with mock.patch.object(watchdog, "ControlGroup", bare):
            return super().elaborate(platform)


class Frames(wiring.Component):
    """The watchdog behind a network that does as it likes, and what is to be seen of it.

    `sound`: marks are where frames have them, no frame leaves that did not come, and while a whole
    frame is inside and the output takes it, a beat leaves every `PATIENCE` cycles.
    """

    def __init__(self):
        ports = ("valid", "net_ready", "net_valid", "net_first", "net_last", "net_err", "take")
        super().__init__({**{port: In(1) for port in ports}, "sound": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.watchdog = unit = watchdog.Watchdog(CONFIG, 1, 1)
        make = functools.partial(Site("observer").register, role="control")
        word, beat = make(range(WORDS), "word"), make(range(CONFIG.beats), "beat")
        inside, quiet = make(3, "inside"), make(4, "quiet")
        accept, left, room = Signal(), Signal(), Signal()
        m.d.comb += [
            room.eq((inside < CONFIG.frames) | (word != 0)),
            unit.valid.eq(self.valid),
            unit.ready.eq(self.net_ready & room),
            unit.first.eq(word == 0),
            unit.last.eq(word == WORDS - 1),
            unit.i.valid.eq(self.net_valid),
            unit.i.payload.first.eq(self.net_first),
            unit.i.payload.last.eq(self.net_last),
            unit.i.payload.err.eq(self.net_err),
            unit.o.ready.eq(self.take),
            accept.eq(self.valid & Mux(unit.drain, unit.take, unit.ready)),
            left.eq(unit.o.valid & unit.o.ready),
        ]
        begins, gone = accept & unit.first, left & (beat == CONFIG.beats - 1)
        with m.If(accept):
            m.d.sync += word.eq(Mux(word == WORDS - 1, 0, word + 1))
        with m.If(left):
            m.d.sync += beat.eq(Mux(beat == CONFIG.beats - 1, 0, beat + 1))
        waits = (inside > (word != 0)) & self.take & ~left
        m.d.sync += [
            inside.eq(inside + begins - gone),
            quiet.eq(Mux(waits, Mux(quiet.all(), quiet, quiet + 1), 0)),
        ]
        first = unit.o.payload.first == (beat == 0)
        last = unit.o.payload.last == (beat == CONFIG.beats - 1)
        m.d.comb += self.sound.eq(
            (~unit.o.valid | (first & last)) & ~(left & (inside == 0)) & (quiet <= PATIENCE)
        )
        return m


class Sound(wiring.Component):
    """What `Frames` has to look like."""

    def __init__(self):
        super().__init__(dict(Frames().signature.members))

    def elaborate(self, platform):
        m = Module()
        clocked = Site("sound").register(1, "clocked", "control")
        m.d.sync += clocked.eq(1)
        m.d.comb += self.sound.eq(1)
        return m


def replicated(register):
    return register.replica is not None


def never():
    """The watchdog never finds a beat astray nor silence."""
    return mock.patch.object(watchdog.Watchdog, "_silent", return_value=Signal())


OUTPUTS = ("o__valid", "o__payload", "i__ready", "drain", "take")
PROOFS = [
    Proof(
        unit="watchdog, TMR",
        struck="every register of three replicas",
        text="every output = unprotected watchdog's; replicas equal after 1 cycle",
        claim=Claim(equal=OUTPUTS),
        golden=lambda: Bare(CONFIG, 1, 1),
        faulty=lambda: watchdog.Watchdog(CONFIG, 1, 1),
        chosen=replicated,
        invariant=gone_after(lambda register: 0),
        broken=first_replica_only,
        breakage="voter y = a",
    ),
    Proof(
        unit="watchdog, any network",
        struck="every register of three replicas",
        text="frames whole and none too many, a beat within limit + 3 cycles",
        claim=Claim(equal=("sound",)),
        golden=Sound,
        faulty=Frames,
        chosen=replicated,
        method="reachability",
        broken=never,
        breakage="silence is not noticed",
        broken_depth=16,
    ),
]


@pytest.mark.parametrize("proof", PROOFS, ids=name)
def test_holds(proof, tmp_path, report):
    answer, bits = prove(proof, tmp_path)

    report(proof, answer, bits)
    assert answer.proved


@pytest.mark.parametrize("proof", PROOFS, ids=name)
def test_fails_when_it_is_broken(proof, tmp_path, report):
    cycles, intact = refute(proof, tmp_path)

    report(proof, cycles)
    assert intact == 0
