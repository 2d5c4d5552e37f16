"""Which neurons matter: scores of output channels, and the choice of the critical few."""

from .choice import choose, macs_per_neuron, risk
from .injection import msb_scores, neuron_scores
from .scores import SCORES, score

__all__ = ["SCORES", "choose", "macs_per_neuron", "msb_scores", "neuron_scores", "risk", "score"]
