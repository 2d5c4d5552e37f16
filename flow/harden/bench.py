"""Plans made real: built, synthesised, struck; beside the plain design on the same terms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...quant.errors import ClaimError
from ...sim.campaign import compare, run_campaign
from ..builder import build_design
from ..demo import area
from ..design import prepare
from ..plan import Plan
from ..synth import synth
from .source import Source

__all__ = ["Bench"]

Json = dict[str, Any]

AUDIT = 20
"""Upsets of each campaign that judges which are repeated in cocotb."""
BROAD = 300_000
"""Upsets from which on compiling the bit-parallel engine pays."""


class Bench:
    """Measures designs of one source in the folder `out`: "plain" there, and "design".

    The vectors of each are the frames to judge by, then those of the profile. A campaign raises
    what `sim.campaign.run_on` does, and ClaimError when its audit disagrees.
    """

    def __init__(
        self,
        source: Source,
        out: Path,
        faults: int,
        seed: int,
        tell: Callable[..., None],
        audit: int = AUDIT,
    ) -> None:
        self.source, self.out, self.faults, self.seed, self.tell = source, out, faults, seed, tell
        self.audit = audit
        self._plain_synth: Json | None = None
        self._plain_report: Json | None = None
        self._built: Plan | None = None

    def build_plain(self) -> None:
        """Write the design without protection."""
        self._build("plain", Plan())

    def profile(self) -> Json:
        """The report of a campaign on the plain design, on the frames of the profile."""
        inputs = self.source.inputs
        return self._strike("plain", len(inputs.evaluation), len(inputs.profile), 0)

    def build(self, plan: Plan) -> None:
        """Write the protected design, unless it is the one that lies there."""
        if plan != self._built:
            self._build("design", plan)
            self._built = plan

    def overhead(self) -> Json:
        """{overhead, area, plain_area, synth, plain_synth} of the protected design, measured.

        Raises ClaimError if synthesis dissolved a voter.
        """
        plain = self._plain_synth = self._plain_synth or self._synth("plain")
        hardened = self._synth("design")
        cost, before = area(hardened), area(plain)
        resources = ("luts", "ffs", "dsps", "brams")
        return {
            "overhead": cost / before - 1,
            "area": cost,
            "plain_area": before,
            "synth": {key: hardened[key] for key in resources},
            "plain_synth": {key: plain[key] for key in resources},
            "replicas": {key: hardened["replicas"][key] for key in ("expected", "found")},
        }

    def ratio(self) -> Json:
        """{ratio: {value, low, high, ..}, outcomes, plain_outcomes, experiments, inputs} on the
        frames to judge by."""
        count = len(self.source.inputs.evaluation)
        if self._plain_report is None:
            self._plain_report = self._strike("plain", 0, count, self.audit)
        report, plain = self._strike("design", 0, count, self.audit), self._plain_report
        return {
            "ratio": compare(report, plain),
            "outcomes": report["outcomes"],
            "plain_outcomes": plain["outcomes"],
            "experiments": report["experiments"],
            "inputs": report["inputs"],
            "vulnerable_bit_cycles": report["sdc_critical"]["vulnerable_bit_cycles"],
            "plain_vulnerable_bit_cycles": plain["sdc_critical"]["vulnerable_bit_cycles"],
        }

    def _build(self, name: str, plan: Plan) -> None:
        source, inputs = self.source, self.source.inputs
        self.tell(f"building {name}")
        build_design(
            prepare(source.graph, source.folding, plan),
            self.out / name,
            target=source.target.name,
            frames=np.concatenate([inputs.evaluation, inputs.profile]),
        )

    def _synth(self, name: str) -> Json:
        self.tell(f"synthesising {name}")
        return synth(self.out / name, target=self.source.target.name)

    def _strike(self, name: str, first: int, count: int, audit: int) -> Json:
        engine = "bitparallel" if self.faults >= BROAD else "native"
        report = run_campaign(
            self.out / name,
            engine=engine,
            faults=self.faults,
            inputs=count,
            first_input=first,
            seed=self.seed,
            audit=audit,
            progress=lambda what, *numbers: self.tell(f"{name}: {what}", *numbers),
        )
        if report["audit"]["disagreements"]:
            raise ClaimError(
                f"audit of {name}: {report['audit']['disagreements']} faults went another way in "
                "cocotb"
            )
        return report
