"""The cut netlist mapped to 3-input LUTs by Yosys: `python -m tercet.sim.gates_mapping IN TOP OUT`.

Memories stay memories: each read port becomes an output (its address) and an input (its word).
Signed products are recoded by Booth, radix 4; sums become chains of full adders, two LUTs a bit,
instead of the carry trees that are quick in hardware; everything else is left to ABC. What Verilog
leaves undefined is 0, as the other engines have it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

__all__ = ["main"]

#: Full adders: sum 0x96, majority 0xE8; inputs of $lut are numbered from bit 0 of A.
ADDERS = r"""
module \$fa (A, B, C, X, Y);
  parameter WIDTH = 1;
  (* force_downto *) input [WIDTH-1:0] A, B, C;
  (* force_downto *) output [WIDTH-1:0] X, Y;
  genvar i;
  generate for (i = 0; i < WIDTH; i = i + 1) begin : bits
    \tercet_xor s (.A({C[i], B[i], A[i]}), .Y(Y[i]));
    \tercet_maj c (.A({C[i], B[i], A[i]}), .Y(X[i]));
  end endgenerate
endmodule
module \$alu (A, B, CI, BI, X, Y, CO);
  parameter A_SIGNED = 0;
  parameter B_SIGNED = 0;
  parameter A_WIDTH = 1;
  parameter B_WIDTH = 1;
  parameter Y_WIDTH = 1;
  (* force_downto *) input [A_WIDTH-1:0] A;
  (* force_downto *) input [B_WIDTH-1:0] B;
  input CI, BI;
  (* force_downto *) output [Y_WIDTH-1:0] X, Y, CO;
  (* force_downto *) wire [Y_WIDTH-1:0] AA, BX, BB;
  (* force_downto *) wire [Y_WIDTH:0] carry;
  \$pos #(.A_SIGNED(A_SIGNED), .A_WIDTH(A_WIDTH), .Y_WIDTH(Y_WIDTH)) pa (.A(A), .Y(AA));
  \$pos #(.A_SIGNED(B_SIGNED), .A_WIDTH(B_WIDTH), .Y_WIDTH(Y_WIDTH)) pb (.A(B), .Y(BX));
  assign carry[0] = CI;
  assign CO = carry[Y_WIDTH:1];
  genvar i;
  generate for (i = 0; i < Y_WIDTH; i = i + 1) begin : bits
    assign BB[i] = BI ^ BX[i];
    assign X[i] = BB[i] ^ AA[i];
    \tercet_xor s (.A({carry[i], BB[i], AA[i]}), .Y(Y[i]));
    \tercet_maj c (.A({carry[i], BB[i], AA[i]}), .Y(carry[i+1]));
  end endgenerate
endmodule
"""

Json = dict[str, Any]
#: For area, since every lane pays for every LUT.
ABC = (
    "strash;&get,-n;&fraig,-x;&put;scorr;dc2;dretime;strash",
    ";dch,-f;if,-a;mfs2;lutpack,-S,1",
)
LOG = "yosys.log"  # of one pass, in the working folder


class _Mapper:
    """A Yosys design with quiet passes."""

    def __init__(self) -> None:
        from pyosys import libyosys

        self.ys = libyosys
        self.design = libyosys.Design()

    def run(self, *passes: str) -> None:
        for one in passes:
            self.ys.run_pass(f"tee -q -o {LOG} {one}", self.design)

    def id(self, name: str) -> Any:
        return self.ys.IdString("\\" + name)

    @property
    def top(self) -> Any:
        return self.design.top_module()

    def read(self, source: str, top: str) -> None:
        self.run(f"read_verilog {source}", f"hierarchy -check -top {top}", "proc")
        self.run("opt_clean", "memory_collect")
        for cell in list(self.top.cells_.values()):
            if cell.type.str() == "$shiftx":  # a position outside the vector reads 0
                cell.type = self.ys.IdString("$shift")

    def cut_memories(self) -> list[Json]:
        """Turn read ports into ports of the module: address tercet_la_n, word tercet_ld_n."""
        cells = [cell for cell in self.top.cells_.values() if cell.type.str() == "$mem_v2"]
        table: list[Json] = []
        first = 0
        for cell in sorted(cells, key=self._name):
            row = {"name": self._name(cell), "reads": [], **self._contents(cell)}
            width, bits = row["width"], cell.getParam(self.id("ABITS")).as_int()
            address = cell.getPort(self.id("RD_ADDR"))
            data = cell.getPort(self.id("RD_DATA"))
            for port in range(cell.getParam(self.id("RD_PORTS")).as_int()):
                number = first + port
                self._output(f"tercet_la_{number}", address.extract(port * bits, bits))
                self._input(f"tercet_ld_{number}", data.extract(port * width, width))
                row["reads"].append(number)
            first += len(row["reads"])
            self.top.remove(cell)
            table.append(row)
        self.top.fixup_ports()
        return table

    def _name(self, cell: Any) -> str:
        name: str = cell.getParam(self.id("MEMID")).decode_string()
        return name.removeprefix("\\")

    def _contents(self, cell: Any) -> Json:
        """Width, depth and the words at the start as hexadecimal digits, word 0 first."""
        sizes = [cell.getParam(self.id(key)).as_int() for key in ("WIDTH", "SIZE", "OFFSET")]
        width, depth, offset = sizes
        if cell.getParam(self.id("WR_PORTS")).as_int():
            raise ValueError(f"memory {self._name(cell)} is not one the cut leaves")
        bits = cell.getParam(self.id("INIT")).as_string()[::-1].replace("x", "0").ljust(1, "0")
        bits = bits.ljust(width * depth, "0") if len(bits) < width * depth else bits
        words = [bits[i * width : (i + 1) * width][::-1] for i in range(depth)]
        sizes_ = {"width": width, "depth": depth, "offset": offset}
        return {**sizes_, "init": [f"{int(word, 2):x}" for word in words]}

    def _output(self, name: str, signal: Any) -> None:
        wire = self.top.addWire(self.id(name), signal.size())
        wire.port_output = True
        self.top.connect(self.ys.SigSpec(wire), signal)

    def _input(self, name: str, signal: Any) -> None:
        wire = self.top.addWire(self.id(name), signal.size())
        wire.port_input = True
        self.top.connect(signal, self.ys.SigSpec(wire))

    def map(self, adders: str) -> None:
        self.run(
            "setundef -zero -undriven", "opt_clean", "opt_expr", "opt_merge", "wreduce", "opt_clean"
        )
        # The low-power form has the fewest rows and sums them without a tree; signed only.
        self.run("booth -lowpower t:$mul r:A_SIGNED=1 r:B_SIGNED=1 %i %i", "opt_clean")
        self.run("alumacc", "opt_clean", "maccmap", f"techmap -map {adders}", "techmap")
        self.run("opt_expr", "opt_merge", "opt_clean", "simplemap", "setundef -zero")
        self.run(f"abc -lut 3 -script +{''.join(ABC)}", "opt_clean")


def main() -> None:
    parser = argparse.ArgumentParser(prog="tercet.sim.gates_mapping")
    parser.add_argument("verilog")
    parser.add_argument("top")
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    (args.out / "adders.v").write_text(ADDERS)
    mapper = _Mapper()
    mapper.read(args.verilog, args.top)
    memories = mapper.cut_memories()
    mapper.map(str(args.out / "adders.v"))
    (args.out / "memories.json").write_text(json.dumps(memories))
    mapper.run(f"write_json {args.out / 'luts.json'}")
    sys.stdout.flush()
    os._exit(0)  # Yosys frees a design for seconds; the files are written


if __name__ == "__main__":
    main()
