"""Fault engines behind one interface: cocotb (the audit) and native (next-state extraction)."""
