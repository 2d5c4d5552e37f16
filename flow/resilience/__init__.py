"""How many upsets of a design's registers change the class: an estimate without building it."""

from .estimate import LayerResilience, Resilience, RoleResilience, resilience_estimate
from .table import sensitivity

__all__ = [
    "LayerResilience",
    "Resilience",
    "RoleResilience",
    "resilience_estimate",
    "sensitivity",
]
