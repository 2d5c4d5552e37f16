"""One experiment in a simulation of its own, without forks: its waves can be written."""

from typing import Any

import cocotb
from cocotb.handle import HierarchyObject

from tercet.sim.benches.upset import started


@cocotb.test
async def replay(dut: HierarchyObject) -> None:
    """The experiment of options.json, or the fault-free run if not `struck`, to cycle `end`."""
    run = await started(dut)
    (stop,) = run.options["stops"]
    experiment: dict[str, Any] = stop["experiments"][0]
    await run.until(stop["cycle"])
    if run.options["struck"]:
        await run.upset(experiment)
    await run.until(run.options["end"])
