"""Retry: groups under way are logged, and issued again when the oldest one fails its check.

Rollback to the last state that was checked (backward error recovery; Koren and Krishna,
"Fault-Tolerant Systems", 2007, chapter 6), here for a pipeline that forgets by draining: after a
bad verdict nothing starts until everything under way has left the pipeline, unseen, and then all
groups that have no verdict yet start again. So no register behind the start needs to be cleared.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .arith import rom
from .config import Turn, clog2
from .control import ControlGroup
from .fifo import OutputFifo
from .linear_config import LinearConfig
from .retry_sequencer import RetrySequencer
from .site import Site
from .window import WindowBuffer, reader_layout

__all__ = ["GroupLog", "group_layout", "join_log"]


def group_layout(config: LinearConfig) -> data.StructLayout:
    """What a group is issued from again.

    Fields: `place`, where the reader of the window buffer stands; where there are several passes,
    `pass_` and `base`, the address of its first weights.
    """
    passes, steps = len(config.window.passes), config.window.steps
    fields: dict[str, Any] = {"place": reader_layout(config.window)}
    if passes > 1:
        fields |= {"pass_": clog2(passes), "base": clog2(steps * sum(config.leaving))}
    return data.StructLayout(fields)


class GroupLog(wiring.Component):
    """Groups from their last step to their verdict; a bad verdict has them issued again.

    A bad verdict in cycle t stops all issue from t + 1 to t + F, F = `config.verdict_delay`
    (`stop`); verdicts in this time count for nothing. In cycle t + F (`rewind`) the pipeline is
    empty; from t + F + 1 on the logged groups are issued again, oldest first (`replay`), before any
    new one. The oldest is given up after `config.retry` retries: then its verdict stands, and
    nothing is retried before a frame without any bad verdict has left, so that a fault that stays
    costs no more time.

    Whenever nothing is under way the log is empty, so an upset pointer does not last.

    Parameters: `config`, whose `retry` is at least 1, the `site` of the registers.

    Members: `complete`, the last step of a group is issued; `entry`, that group; `last_window`, it
    reads the frame's last window; `verdict`, of the oldest group, `bad`, by its checksum, and
    `flagged`, some beat of it carries `err`; `idle`, nothing is under way; `stop`,
    `rewind`, `replay`; `again`, the group to issue while `replay` is set; `held`, there is a group
    without verdict, and `oldest`, the position of its window; `release`, the verdict stands;
    `alarm`, a control register was upset.
    Raises ValueError for a layer without retry.
    """

    def __init__(self, config: LinearConfig, site: Site) -> None:
        if config.retry < 1:
            raise ValueError(f"retry must be >= 1, not {config.retry}")
        self.config, self.site = config, site
        layout = group_layout(config)
        ins = ("complete", "last_window", "verdict", "bad", "flagged", "idle")
        outs = ("stop", "rewind", "replay", "held", "release", "alarm")
        super().__init__(
            {
                **{name: In(1) for name in ins},
                **{name: Out(1) for name in outs},
                "entry": In(layout),
                "again": Out(layout),
                "oldest": Out(config.window.index_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        group = ControlGroup(m, self.site, config.control)
        bits = clog2(config.log_groups)
        head, following, tail = (group.register(bits, n) for n in ("head", "next", "tail"))
        draining = group.register(range(config.verdict_delay + 1), "draining")
        m.d.comb += [
            self.stop.eq(draining != 0),
            self.rewind.eq(draining == 1),
            self.replay.eq(following != tail),
            self.held.eq(head != tail),
        ]
        leaving, last, err = self._words(m, head, following, tail)
        # An error that came with the frame is there again.
        bad = self.bad | (self.flagged & ~err) if config.retries_flags else self.bad
        failed = self._judge(m, group, bad, last)
        with m.If(failed):
            group.set(draining, config.verdict_delay)
        with m.Elif(self.stop):
            group.set(draining, draining - 1)
        with m.If(self.idle):
            group.set(head, tail)
        with m.Elif(self.release & self.held):
            group.set(head, head + leaving)
        with m.If(self.stop):
            group.set(following, head)
        with m.Elif(self.complete):
            group.set(following, following + 1)
        with m.If(self.complete & ~self.replay):
            group.set(tail, tail + 1)
        m.d.comb += self.alarm.eq(group.finish())
        return m

    def _judge(self, m: Module, group: ControlGroup, bad: Value, last: Value) -> Value:
        """Whether the oldest group is tried again; else its verdict stands."""
        tries = group.register(range(self.config.retry + 1), "tries")
        spent, doubted = group.register(1, "spent"), group.register(1, "doubted")
        counts, failed = Signal(), Signal()
        m.d.comb += [
            counts.eq(self.verdict & ~self.stop),
            failed.eq(counts & bad & self.held & ~spent & (tries != self.config.retry)),
            self.release.eq(counts & ~failed),
        ]
        with m.If(failed):
            group.set(tries, tries + 1)
        with m.Elif(counts):
            group.set(tries, 0)
            # A frame that leaves without a bad verdict shows that the fault is gone.
            group.set(doubted, ~last & (doubted | bad))
            group.set(spent, Mux(last, doubted | bad, spent | bad))
        return failed

    def _words(
        self, m: Module, head: Signal, following: Signal, tail: Signal
    ) -> tuple[Value, Value, Value]:
        """The memories; how many entries leave with the oldest, whether it ends its frame, `err`.

        What the oldest group is asked for lies apart: each memory has one read port.
        """
        config, place = self.config, self.entry.place
        turns = config.turns
        final = len(turns) - (3 if turns[-1] == Turn.VOTED else 1)
        ends: Value = self.last_window
        if len(turns) > 1:
            ends = ends & (self.entry.pass_ == final)
        asked = [place.window, ends]
        if config.retries_flags:
            asked.append(place.err)
        if config.repeated:  # a group of three turns leaves with its first
            thrice = [int(turn == Turn.FIRST) for turn in turns]
            asked.append(rom(m, thrice, self.entry.pass_, 1, "thrice"))
        oldest = self._memory(m, "oldest", Cat(*asked), head, tail)
        m.d.comb += [
            self.again.eq(self._memory(m, "log", self.entry.as_value(), following, tail)),
            self.oldest.eq(oldest[: len(place.window)]),
        ]
        leaving = Mux(oldest[-1], 3, 1) if config.repeated else Const(1, 1)
        bits = len(place.window)
        return leaving, oldest[bits], oldest[bits + 1] if config.retries_flags else Const(0, 1)

    def _memory(self, m: Module, name: str, word: Value, at: Signal, tail: Signal) -> Signal:
        """The word at `at` of a memory that takes `word` at `tail` when a new group is complete."""
        store = memory.Memory(shape=unsigned(len(word)), depth=self.config.log_groups, init=[])
        m.submodules[name] = store
        write, read = store.write_port(), store.read_port(domain="comb")
        m.d.comb += [
            write.addr.eq(tail),
            write.data.eq(word),
            write.en.eq(self.complete & ~self.replay),
            read.addr.eq(at),
        ]
        found: Signal = read.data
        return found


def join_log(
    m: Module, log: GroupLog, window: WindowBuffer, control: RetrySequencer, fifo: OutputFifo
) -> None:
    """Connect the log to the buffer, the sequencer and the FIFO; `verdict` and `bad` are open."""
    m.d.comb += [
        log.complete.eq(control.complete),
        log.entry.place.eq(window.here),
        log.last_window.eq(window.last_window),
        log.idle.eq(control.idle),
        window.replay.eq(log.replay),
        window.again.eq(log.again.place),
        window.held.eq(log.held),
        window.oldest.eq(log.oldest),
        control.stop.eq(log.stop),
        control.rewind.eq(log.rewind),
        control.replay.eq(log.replay),
        fifo.rewind.eq(log.rewind),
    ]
    if len(log.config.window.passes) > 1:
        m.d.comb += [
            log.entry.pass_.eq(control.pass_),
            log.entry.base.eq(control.base),
            control.again_pass.eq(log.again.pass_),
            control.again_base.eq(log.again.base),
        ]


def join_flags(m: Module, log: GroupLog, fifo: OutputFifo) -> None:
    """Tell the log with a group's verdict whether one of its beats is written with `err`."""
    before = log.site.register(1, "flagged", "checker")
    found: Value = before | fifo.beat.err
    with m.If(fifo.write):
        m.d.sync += before.eq(found & ~fifo.end)
    for rank in range(log.config.verdict_cycles):
        late = log.site.register(1, f"flagged_{rank}", "checker")
        m.d.sync += late.eq(found)
        found = late
    m.d.comb += log.flagged.eq(found)
