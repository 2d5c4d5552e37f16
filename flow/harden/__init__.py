"""The plan that buys most for an area: a profile, candidates, an exact choice, a measured check."""

from .choose import Choice, choose
from .coverage import Coverage
from .predict import Prediction, Predictor
from .profile import Cell, Profile, estimated, measured

__all__ = [
    "Cell",
    "Choice",
    "Coverage",
    "Prediction",
    "Predictor",
    "Profile",
    "choose",
    "estimated",
    "measured",
]
