"""What synthesis needs to know of an FPGA family: Yosys commands and the meaning of its cells.

Cell names are those that Yosys 0.70 maps to; a pattern with `*` matches a group of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

__all__ = ["ECP5", "GW1N", "GW2A", "ICE40_HX", "ICE40_UP", "XC7", "Family"]

Weights = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Family:
    """A family: how to synthesise for it and how its cells count.

    Parameters: `commands` Yosys commands with `{top}` in place of the top module; `open_commands`
    those of a netlist for simulation, in which no state is packed into `forbidden` blocks;
    `lut_metric` the sentence that says what a LUT count means here; `luts`, `ffs`, `dsps`, `brams`,
    `carries` pairs (cell pattern, weight); `memories` cells that hold words (block RAM, LUT RAM,
    shift registers), where a combinational cone ends; `clocks` the clock ports of flip-flops.
    """

    name: str
    commands: tuple[str, ...]
    open_commands: tuple[str, ...]
    forbidden: tuple[str, ...]
    lut_metric: str
    luts: Weights
    ffs: Weights
    dsps: Weights
    brams: Weights
    carries: Weights
    memories: tuple[str, ...]
    clocks: frozenset[str]

    def count(self, cells: Mapping[str, int]) -> dict[str, float]:
        """Resources of a netlist given as {cell type: number}.

        >>> ECP5.count({"LUT4": 10, "CCU2C": 2, "TRELLIS_FF": 3})["luts"]
        14
        """
        tables = {
            "luts": self.luts,
            "ffs": self.ffs,
            "dsps": self.dsps,
            "brams": self.brams,
            "carries": self.carries,
        }
        return {name: _weigh(cells, table) for name, table in tables.items()}

    def is_flip_flop(self, cell: str) -> bool:
        """Whether a cell type is a flip-flop."""
        return _matches(cell, (pattern for pattern, _ in self.ffs))

    def is_memory(self, cell: str) -> bool:
        """Whether a cell type is block RAM, LUT RAM or a shift register."""
        return _matches(cell, self.memories)

    def is_dsp(self, cell: str) -> bool:
        """Whether a cell type is a multiplier block; it may or may not hold registers."""
        return _matches(cell, (pattern for pattern, _ in self.dsps))


def _matches(cell: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(cell, pattern) for pattern in patterns)


def _weigh(cells: Mapping[str, int], table: Weights) -> float:
    total = sum(
        number * weight
        for cell, number in cells.items()
        for pattern, weight in table
        if fnmatchcase(cell, pattern)
    )
    return int(total) if total == int(total) else total


ECP5 = Family(
    name="ecp5",
    commands=("synth_ecp5 -top {top}",),
    open_commands=("synth_ecp5 -nobram -top {top}",),
    forbidden=("block RAM",),
    lut_metric="LUT4 + 2*CCU2C + 4*TRELLIS_DPR16X4 (wide multiplexers are free)",
    luts=(("LUT4", 1), ("CCU2C", 2), ("TRELLIS_DPR16X4", 4)),
    ffs=(("TRELLIS_FF", 1),),
    dsps=(("MULT18X18D", 1), ("MULT9X9D", 0.5)),
    brams=(("DP16KD", 1), ("PDPW16KD", 1)),
    carries=(("CCU2C", 1),),
    memories=("DP16KD", "PDPW16KD", "TRELLIS_DPR16X4"),
    clocks=frozenset({"CLK"}),
)

_ICE40_LUTS = "SB_LUT4 (a carry shares its LUT's logic cell)"


def _ice40(name: str, options: str) -> Family:
    return Family(
        name=name,
        commands=(f"synth_ice40 {options} -top {{top}}",),
        open_commands=(f"synth_ice40 {options.removesuffix(' -dsp')} -nobram -top {{top}}",),
        forbidden=("block RAM", *(["DSP"] if "-dsp" in options else [])),
        lut_metric=_ICE40_LUTS,
        luts=(("SB_LUT4", 1),),
        ffs=(("SB_DFF*", 1),),
        dsps=(("SB_MAC16", 1),),
        brams=(("SB_RAM40_4K*", 1),),
        carries=(("SB_CARRY", 1),),
        memories=("SB_RAM40_4K*", "SB_SPRAM256KA"),
        clocks=frozenset({"C"}),
    )


ICE40_HX = _ice40("ice40-hx", "-device hx")
ICE40_UP = _ice40("ice40-up", "-device u -dsp")


def _gowin(name: str) -> Family:
    return Family(
        name=name,
        commands=(f"synth_gowin -family {name} -noiopads -top {{top}}",),
        open_commands=(
            f"synth_gowin -family {name} -noiopads -nobram -nolutram -nodsp -top {{top}}",
        ),
        forbidden=("block RAM", "LUT RAM", "DSP"),
        lut_metric="LUT1..LUT4 + ALU + 4*RAM16S* (wide multiplexers are free)",
        luts=(("LUT[1-4]", 1), ("ALU", 1), ("RAM16S*", 4)),
        ffs=(("DFF*", 1),),
        dsps=(("MULT9X9", 0.5), ("MULT18X18", 1), ("MULT36X36", 4), ("MULTALU*", 2)),
        brams=(("SP", 1), ("SPX9", 1), ("SDPB", 1), ("SDPX9B", 1), ("DPB", 1), ("DPX9B", 1),
               ("pROM", 1), ("pROMX9", 1)),
        carries=(("ALU", 1),),
        memories=("SP", "SPX9", "SDPB", "SDPX9B", "DPB", "DPX9B", "pROM", "pROMX9", "RAM16S*"),
        clocks=frozenset({"CLK"}),
    )  # fmt: skip


GW1N = _gowin("gw1n")
GW2A = _gowin("gw2a")

_XILINX = "synth_xilinx -family xc7 -flatten -noiopad -noclkbuf"

XC7 = Family(
    name="xc7",
    commands=(f"{_XILINX} -top {{top}}",),
    open_commands=(f"{_XILINX} -nobram -nolutram -nosrl -nodsp -top {{top}}",),
    forbidden=("block RAM", "LUT RAM", "shift registers", "DSP"),
    lut_metric=(
        "LUT1..LUT6 + INV + SRL16E/SRLC32E + LUT RAM by its LUTs (RAM64X1D 2, RAM64M 4, ...;"
        " packing two small LUTs into one is not counted)"
    ),
    luts=(("LUT[1-6]", 1), ("INV", 1), ("SRL16E", 1), ("SRLC32E", 1), ("RAM32X1S", 1),
          ("RAM64X1S", 1), ("RAM32X1D", 2), ("RAM64X1D", 2), ("RAM128X1S", 2), ("RAM32M", 4),
          ("RAM64M", 4), ("RAM128X1D", 4), ("RAM256X1S", 4), ("RAM256X1D", 8), ("RAM512X1S", 8)),
    ffs=(("FDRE", 1), ("FDSE", 1), ("FDCE", 1), ("FDPE", 1)),
    dsps=(("DSP48E1", 1),),
    brams=(("RAMB36E1", 1), ("RAMB18E1", 0.5)),
    carries=(("CARRY4", 1),),
    memories=("RAMB36E1", "RAMB18E1", "RAM[1-9]*", "SRL16E", "SRLC32E"),
    clocks=frozenset({"C"}),
)  # fmt: skip
