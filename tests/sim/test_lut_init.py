"""Numbering of configuration bits, and the two forms of a netlist that flip them."""

import numpy as np
import pytest

from tercet.sim.lut_init import Lut, Luts

TABLES = Luts(
    (
        Lut("a", "conv", 2, 0b0110, ((0, 0),)),
        Lut("b", None, 4, 0x8000, ((0b1000, 0b1000),)),
        Lut("c", "fc", 1, 0b01, ((0, 0),)),
    )
)
TEXT = """module top(input clk, input [3:0] x, output [2:0] y);
  assign y[0] = /*T0*/4'h6 >> {x[1], x[0]};
  assign y[1] = /*T1*/16'h8000 >> {1'b1, x[2], x[1], x[0]};
  assign y[2] = /*T2*/2'h1 >> {y[0]};
endmodule
"""


def test_bits_are_numbered_table_by_table():
    assert TABLES.bits == 4 + 16 + 2
    table, minterm = TABLES.locate(np.array([0, 3, 4, 19, 20, 21]))

    assert table.tolist() == [0, 0, 1, 1, 2, 2]
    assert minterm.tolist() == [0, 3, 0, 15, 0, 1]


def test_constant_inputs_leave_bits_that_nothing_can_read():
    expected = [True] * 4 + [False] * 8 + [True] * 8 + [True] * 2

    assert TABLES.reachable.tolist() == expected


def test_each_bit_has_a_code_of_its_own_and_none_is_zero():
    codes = TABLES.codes(np.arange(TABLES.bits))

    assert len(set(codes.tolist())) == TABLES.bits
    assert codes.min() > 0
    assert codes.max() < 1 << TABLES.code_bits


def test_selecting_form_compares_the_register_with_table_and_address():
    text = TABLES.selecting(TEXT, "clk")

    assert "reg [5:0] tercet_config = 6'd0;" in text
    assert "(4'h6 >> {x[1], x[0]}) ^ (tercet_config == {2'd1, 2'd0, {x[1], x[0]}})" in text
    assert "(tercet_config == {2'd2, {1'b1, x[2], x[1], x[0]}})" in text
    assert "/*T" not in text


def test_writable_form_makes_memories_of_the_chosen_tables_only():
    text = TABLES.writable(TEXT, [1])

    assert "reg [15:0] tercet_init_1 [0:0];" in text
    assert "tercet_init_1_word[{1'b1, x[2], x[1], x[0]}]" in text
    assert "/*T0*/4'h6 >>" in text
    assert "tercet_init_0" not in text


def test_tables_read_back_from_json():
    row = {"name": "a", "layer": "conv", "inputs": 2, "init": 6, "reads": [[0, 0]]}

    assert Lut.from_json(row) == TABLES.tables[0]


def test_a_table_without_a_name_is_refused():
    with pytest.raises(KeyError):
        Lut.from_json({"inputs": 2, "init": 6, "reads": []})
