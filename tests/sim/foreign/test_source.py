"""What a design must be to be read, and what is said of one that is not."""

from pathlib import Path

import pytest

from tercet.quant.errors import InputError
from tercet.sim.foreign import source
from tercet.sim.trace import Port

pytest.importorskip("pyosys")
pytestmark = pytest.mark.verilator

HERE = Path(__file__).parent
BODY = "reg a; assign q = a; always @(posedge clk) a <= d;"


def write(folder: Path, body: str, ports: str = "input clk, d, output q") -> Path:
    path = folder / "design.v"
    path.write_text(f"module top({ports});\n{body}\nendmodule\n")
    return path


def test_ports_and_sites_are_those_of_the_design():
    found = source.read([HERE / "store.v"], "store", "clk")

    assert [port for port in found.inputs if port.width > 1] == [
        Port("in_data", 32),
        Port("in_be", 4),
    ]
    assert "clk" not in {port.name for port in found.inputs}
    assert Port("out_data", 80) in found.outputs
    assert found.design.ff_bits == 129
    assert [(m.name, m.bits) for m in found.design.space.memories] == [("mem", 288)]


def test_systemverilog_with_packages_and_generate_is_read():
    found = source.read([HERE / "smooth.sv"], "smooth", "clk")

    places = {bit.path for register in found.design.registers for bit in register.bits}
    assert ("lanes[3].stage", "out") in places
    assert [(m.name, m.bits) for m in found.design.space.memories] == [("weights", 16)]


def test_several_files_include_folders_macros_and_data_files(tmp_path):
    (tmp_path / "inc").mkdir()
    (tmp_path / "inc" / "width.vh").write_text("`define WIDTH 3\n")
    (tmp_path / "rom.hex").write_text("1 2 3 4 5 6 7 0\n")
    (tmp_path / "leaf.v").write_text(
        "module leaf(input clk, input [`WIDTH-1:0] d, output reg [`WIDTH-1:0] q);\n"
        "always @(posedge clk) q <= d;\nendmodule\n"
    )
    (tmp_path / "top.v").write_text(
        '`include "width.vh"\nmodule top(input clk, input [2:0] d, output [2:0] q);\n'
        "reg [2:0] rom [0:7]; `ifdef FILLED\n"
        'initial $readmemh("rom.hex", rom);\n`endif\n'
        "leaf one(clk, rom[d], q);\nendmodule\n"
    )
    files = [tmp_path / "top.v", tmp_path / "leaf.v"]

    found = source.read(files, "top", "clk", include=[tmp_path / "inc"], define=["FILLED"])
    (tmp_path / "rom.hex").write_text("0 2 3 4 5 6 7 0\n")
    other = source.read(files, "top", "clk", include=[tmp_path / "inc"], define=["FILLED"])

    assert [(r.name, r.width) for r in found.design.registers] == [("q", 3)]
    assert "tercet_ram_0[1] = 3'h2" in found.design.cut.verilog
    assert found.digest != other.digest


@pytest.mark.parametrize(
    ("body", "options", "message"),
    [
        (BODY, {"clock": "clock"}, "module top has no input clock; it has: clk, d"),
        (BODY, {"clock": "d"}, "module top is clocked by clk, not by d: --clock clk"),
        (BODY, {"top": "main"}, "no module main in design.v; there is: top"),
        (BODY, {"top": "a b"}, "--top: a b is no plain Verilog name"),
        ("assign q = d;", {}, "module top has no flip-flop"),
        ("reg a; assign q = a; always @* if (clk) a = d;", {}, r"\(\$dlatch\): latch"),
        (
            "reg a, b; assign q = a ^ b; always @(posedge clk) a <= d; always @(posedge d) b <= a;",
            {},
            r"\(\$dff\): second clock",
        ),
        (
            "reg a; assign q = a; wire g = clk & d; always @(posedge g) a <= d;",
            {},
            "use one plain clock and an enable",
        ),
        ("reg a; assign q = a; always @(negedge clk) a <= d;", {}, "falling edge"),
        (
            (
                "reg a, r; assign q = a; always @(posedge clk) r <= d;"
                "always @(posedge clk or posedge r) if (r) a <= 0; else a <= d;"
            ),
            {},
            "asynchronous reset made inside the design",
        ),
        (BODY, {"define": ["1X"]}, "--define: 1X is not NAME"),
        (BODY, {"include": [Path("nowhere")]}, "--include: nowhere is no folder"),
        ('`include "absent.vh"\n' + BODY, {}, "cannot be read: .*absent.vh"),
        ("nonsense", {}, "Yosys failed"),
    ],
)
def test_what_cannot_be_a_campaign_is_one_line(tmp_path, body, options, message):
    path = write(tmp_path, body)
    options = {"top": "top", "clock": "clk"} | options

    with pytest.raises(InputError, match=message) as caught:
        source.read([path], options.pop("top"), options.pop("clock"), **options)

    assert "\n" not in str(caught.value)


def test_a_bidirectional_port_is_refused(tmp_path):
    path = write(tmp_path, BODY, "input clk, d, output q, inout z")

    with pytest.raises(InputError, match="port z is bidirectional"):
        source.read([path], "top", "clk")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.v: no such Verilog file"):
        source.read([tmp_path / "none.v"], "top", "clk")
