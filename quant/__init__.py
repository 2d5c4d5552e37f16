"""The network in numbers: integer graph, reference, importers, quantisation, training."""
