"""How often one wrong bit inside a layer changes the class: measured once for each graph."""

from .measure import measure
from .records import LANES, LayerSensitivity, Sensitivity

__all__ = ["LANES", "LayerSensitivity", "Sensitivity", "measure"]
