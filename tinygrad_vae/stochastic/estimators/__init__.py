"""The estimators: each turns a graph into one of the same value in which the gradient has somewhere to go."""

from .control import REBAR, RELAX
from .coupled import ARM, DisARM
from .enumeration import Enumeration, Quadrature
from .estimate import ESTIMATORS, Estimator, estimate
from .measure_valued import MeasureValued
from .pathwise import Pathwise, reparameterize
from .relaxed import GumbelSoftmax, StraightThrough
from .score_function import LeaveOneOut, ScoreFunction, SecondDraw, score_function

__all__ = [
    "ARM",
    "ESTIMATORS",
    "REBAR",
    "RELAX",
    "DisARM",
    "Enumeration",
    "Estimator",
    "GumbelSoftmax",
    "LeaveOneOut",
    "MeasureValued",
    "Pathwise",
    "Quadrature",
    "ScoreFunction",
    "SecondDraw",
    "StraightThrough",
    "estimate",
    "reparameterize",
    "score_function",
]
