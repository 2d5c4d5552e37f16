"""Costs of a configured design: registers and blocks by closed form, LUTs by a fitted model."""
