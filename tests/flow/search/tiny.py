"""A search that trains two small networks for an epoch; the fixture `tiny` of the tests."""

SPACE = """
[data]
name = "digits"
[network]
family = "chain"
stages = 1
blocks = 1
width = [2, 4]
kernel = 1
head = "flatten"
weight_bits = 8
act_bits = 8
scheme = "scale"
[train]
epochs = 2
seed = 0
[hardware]
target = "ecp5-25k"
interval = [144, 576]
multiplier = ["dsp", "lut"]
plan = ["none", "voted"]
[plans.voted.default]
tmr = { share = 0.3, score = "taylor" }
bound = { kind = "zero", per = "layer" }
[objectives]
minimise = ["error", "vulnerable_bit_cycles", "luts"]
[constraints]
fit = 0.8
[search]
algorithm = "nsga2"
population = 4
evaluations = 8
seed = 1
"""
