"""Triple modular redundancy of a lane: three lanes and voters, or one lane three times and a voter.

In space the replicas' accumulators are voted in every cycle and reload the voted value, stalled or
not. In time the first two results of a repeated pass wait in registers and are voted with the third
before anything leaves; an upset of the lane, or of what it reads, spoils one of the three.
Source: triple modular redundancy with voters in the feedback loop, folklore.
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .lane import Lane
from .linear_config import LinearConfig
from .sequencer import Sequencer
from .site import Site
from .voter import Voter

__all__ = ["vote_in_space", "vote_in_time"]


class _Kept(wiring.Component):
    """A result that waits: `q` is the `d` of the last cycle in which `keep` was set.

    A module of its own, which synthesis may not merge. Parameters: `width` in bits, the `site`.
    """

    def __init__(self, width: int, site: Site) -> None:
        self.site = site
        super().__init__({"keep": In(1), "d": In(width), "q": Out(width)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        result = self.site.register(len(self.d), "result", "voter")
        with m.If(self.keep):
            m.d.sync += result.eq(self.d)
        m.d.comb += self.q.eq(result)
        return m


def vote_in_space(m: Module, config: LinearConfig, index: int, replicas: list[Lane]) -> Value:
    """The voted result of three replicas, which reload it; a lone lane reloads its own.

    With three voters each replica reloads the value of its own, and the first one's leaves.
    """
    if len(replicas) == 1:
        lane = replicas[0]
        m.d.comb += lane.acc_in.eq(lane.acc)
        return lane.acc
    voted = []
    for number in range(config.voters):
        voter = Voter(config.acc_bits)
        m.submodules[f"voter_{index}" + (f"_r{number}" if number else "")] = voter
        for port, lane in zip((voter.a, voter.b, voter.c), replicas, strict=True):
            m.d.comb += port.eq(lane.acc)
        voted.append(voter.y.as_signed())
    for number, lane in enumerate(replicas):
        m.d.comb += lane.acc_in.eq(voted[number % config.voters])
    return voted[0]


def vote_in_time(
    m: Module, config: LinearConfig, index: int, result: Value, control: Sequencer
) -> Value:
    """What leaves the lane: `result`, or in the third turn of a repeated pass the majority."""
    if index not in config.voted:
        return result
    m.submodules[f"voter_{index}"] = voter = Voter(config.acc_bits)
    for number, port in enumerate((voter.a, voter.b)):
        kept = _Kept(config.acc_bits, Site(config.name, index))
        m.submodules[f"result_{index}_{number}"] = kept
        keep = getattr(control, f"done_keep_{number}")
        m.d.comb += [kept.keep.eq(keep), kept.d.eq(result), port.eq(kept.q)]
    m.d.comb += voter.c.eq(result)
    if "voted" not in control.kept:  # every result that leaves is voted
        return voter.y.as_signed()
    return Mux(control.done_voted, voter.y.as_signed(), result)
