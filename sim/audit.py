"""Why a campaign is to be believed: control experiments that must fail, and a second simulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..quant.errors import ClaimError
from ..quant.ir import IntArray
from .campaign_options import Options
from .faults import Faults
from .outcomes import Outcome
from .sampling import Complete, Listed
from .testbed import Testbed

__all__ = ["audit", "control"]

CONTROL_SINGLE, CONTROL_MANY = 256, 16

Json = dict[str, Any]


def control(testbed: Testbed, engine: str, seed: int) -> Json:
    """Experiments of which some must fail: single flips, and flips of half of all bits.

    Engine `exhaustive` is `bitparallel` here, which simulates what it does not inherit. ClaimError
    if none fails.
    """
    engine = "bitparallel" if engine == "exhaustive" else engine
    rng = np.random.default_rng([seed, 1])
    bits, count = testbed.space.ff_bits, CONTROL_SINGLE + CONTROL_MANY
    groups = [rng.integers(0, bits, 1) for _ in range(CONTROL_SINGLE)]
    groups += [np.flatnonzero(rng.integers(0, 2, bits)) for _ in range(CONTROL_MANY)]
    first = np.concatenate(([0], np.cumsum([len(group) for group in groups])))
    cycle = rng.integers(*testbed.window, count)
    seen = testbed.run(engine, Faults.flips(cycle, first, np.concatenate(groups)), workers=1)
    failed = int((seen.outcome >= Outcome.FALSE_ALARM).sum())
    if not failed:
        raise ClaimError(
            "fault engine: no control experiment changes the output; no flip can count"
        )
    return {"experiments": count, "failed": failed}


def audit(
    testbed: Testbed,
    plan: Listed | Complete,
    outcome: IntArray,
    options: Options,
    workers: int | None,
    tell: Callable[..., None],
) -> Json:
    """Repeat a random sample in cocotb and count where it goes another way.

    `outcome` [n] are those of the first n experiments. Masked and latent differ in no output and
    are one. Nothing is repeated if cocotb was the engine itself.
    """
    count = 0 if options.engine == "cocotb" else min(options.audit, len(outcome))
    if not count:
        return {"sampled": 0, "disagreements": 0, "differing": []}
    rng = np.random.default_rng([options.seed, 2])
    picks = np.sort(rng.choice(len(outcome), count, replace=False))
    done = 0

    def more(number: int) -> None:
        nonlocal done
        done += number
        tell("auditing in cocotb", done, count)

    tell("auditing in cocotb", 0, count)
    seen = testbed.run("cocotb", plan.take(picks), workers=workers, progress=more).outcome
    pairs = np.stack((outcome[picks], seen))
    pairs[pairs == Outcome.LATENT] = Outcome.MASKED
    rows = np.flatnonzero(pairs[0] != pairs[1])
    differing = [
        {
            "experiment": int(picks[row]),
            options.engine: Outcome(pairs[0, row]).label,
            "cocotb": Outcome(pairs[1, row]).label,
        }
        for row in rows[:10]
    ]
    return {"sampled": count, "disagreements": len(rows), "differing": differing}
