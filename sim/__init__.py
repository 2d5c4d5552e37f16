"""The circuit in time: Verilator, cocotb benches, fault sites, engines, campaigns, statistics."""
