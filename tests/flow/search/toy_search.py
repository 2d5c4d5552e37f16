"""A search whose evaluation is a formula; run as a program it is a search that can be killed.

toy_search.py SPACE.toml DIR WORKERS [resume] [slow|fails|dies]
"""

import os
import signal
import sys
import time
from pathlib import Path

from tercet.flow.search.loop import run
from tercet.flow.search.space_file import load_space
from tercet.quant.errors import ClaimError, InputError

SPACE = """
[data]
name = "digits"
[network]
family = ["chain", "residual"]
stages = [1, 2, 3]
blocks = [1, 2]
width = [4, 8, 12, 16]
kernel = [1, 3]
head = ["flatten", "mean"]
weight_bits = [4, 8]
act_bits = 8
scheme = "scale"
[train]
epochs = 1
seed = 0
[hardware]
target = "ecp5-25k"
interval = [64, 144, 576]
multiplier = ["dsp", "lut"]
plan = "none"
[objectives]
minimise = ["error", "luts", "initiation_interval"]
[search]
algorithm = "nsga2"
population = 8
evaluations = 40
seed = 3
"""


def load(folder, text=SPACE):
    """The space of `text`, written to `folder`."""
    path = Path(folder) / "space.toml"
    path.write_text(text)
    return load_space(path)


def evaluate(candidate):
    """More channels: fewer errors and more LUTs; a longer interval: fewer LUTs."""
    network = candidate.network
    channels = sum(stage.blocks * stage.width * stage.kernel for stage in network.stages)
    return {
        "error": 1 / channels + 0.01 * len(network.stages),
        "luts": channels * network.weight_bits * 1000 / candidate.interval,
        "initiation_interval": candidate.interval + channels / 8,
    }


def slow(candidate):
    """So that a signal finds it in the middle of a generation."""
    time.sleep(0.02)
    return evaluate(candidate)


def fails(candidate):
    """Some candidates have no result."""
    if candidate.multiplier == "lut":
        raise ValueError("no\nLUT multipliers")
    return evaluate(candidate)


def dies(candidate):
    """The process ends without a word, as for want of memory."""
    if len(candidate.network.stages) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return evaluate(candidate)


def main(space, folder, workers, *words):
    """One search; errors as one line."""
    kinds = {"slow": slow, "fails": fails, "dies": dies}
    chosen = next((kinds[word] for word in words if word in kinds), evaluate)
    try:
        run(
            load_space(Path(space)),
            chosen,
            Path(folder),
            workers=int(workers),
            resume="resume" in words,
        )
    except (ClaimError, InputError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
