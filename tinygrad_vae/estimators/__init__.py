"""The estimators: each turns a graph into one of the same value in which the gradient has somewhere to go.

They know the laws and the verdict, and nothing of models.
"""

from .baselines import RunningAverage
from .control import REBAR, RELAX
from .coupled import ARM, ARSM, DisARM
from .enumeration import Enumeration, Quadrature
from .estimate import ESTIMATORS, Estimator, estimate
from .measure_valued import MeasureValued
from .multi_sample import VIMCO
from .pathwise import Pathwise, reparameterize
from .rejection import RejectionPath
from .relaxed import GumbelSoftmax, StraightThrough
from .score_function import LeaveOneOut, ScoreFunction, SecondDraw, score_function

__all__ = [
    "ARM",
    "ARSM",
    "ESTIMATORS",
    "REBAR",
    "RELAX",
    "VIMCO",
    "DisARM",
    "Enumeration",
    "Estimator",
    "GumbelSoftmax",
    "LeaveOneOut",
    "MeasureValued",
    "Pathwise",
    "Quadrature",
    "RejectionPath",
    "RunningAverage",
    "ScoreFunction",
    "SecondDraw",
    "StraightThrough",
    "estimate",
    "reparameterize",
    "score_function",
]
