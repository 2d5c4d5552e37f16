"""The way through: passes, folding, emission, synthesis, estimates, search, command line."""
