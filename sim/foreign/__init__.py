"""Fault campaigns on designs that are not ours: any synthesisable Verilog with any cocotb bench."""
