"""Small search spaces, made without a file."""

from tercet.flow.plan import Checksum, Plan, Settings, Tmr
from tercet.flow.search.space import DataSpec, Gene, SearchSpec, Space, TrainSpec

PLANS = {
    "checksum": Plan(Settings(checksum=Checksum(3))),
    "codes": Plan(Settings(checksum=Checksum(3), stream="parity", weights="parity"), {}, True),
    "tmr": Plan(Settings(tmr=Tmr(share=0.3))),
}
NETWORK = {
    "family": ("chain", "residual"),
    "stages": (1, 2),
    "head": ("flatten", "mean"),
    "weight_bits": (4, 8),
    "act_bits": (4,),
    "scheme": ("scale", "pow2"),
}
STAGE = {"blocks": (1, 2), "width": (4, 6), "kernel": (1, 3)}
HARDWARE = {"interval": (64, 400), "multiplier": ("dsp", "lut"), "plan": ("none", "checksum")}


def space(constraints=None, target="ecp5-25k", **changed):
    """Chains and residual networks of one or two stages on 8x8 images; genes may be `changed`."""
    network = {name: changed.get(name, choices) for name, choices in NETWORK.items()}
    genes = [Gene(name, choices, "network") for name, choices in network.items()]
    for stage in range(1, max(network["stages"]) + 1):
        genes += [
            Gene(f"{name}{stage}", changed.get(name, choices), "network")
            for name, choices in STAGE.items()
        ]
    genes += [
        Gene(name, changed.get(name, choices), "hardware") for name, choices in HARDWARE.items()
    ]
    return Space(
        genes=tuple(genes),
        data=DataSpec("digits", 0, (1, 8, 8), 10),
        train=TrainSpec(1, 0),
        target=target,
        plans=PLANS,
        objectives=("error", "luts"),
        constraints=constraints or {},
        search=SearchSpec("random", 4, 8, 0),
    )
