"""The circuit: Amaranth components for layers, streams and hardening, and their timing formulas."""
