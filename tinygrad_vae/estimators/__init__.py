"""The estimators: each turns a graph into one of the same value in which the gradient has somewhere to go."""

from ..core import reparameterize
from ..guard.report import ESTIMATORS
from .baselines import RunningAverage
from .control import REBAR, RELAX
from .coupled import ARM, ARSM, DisARM
from .enumeration import Enumeration, Quadrature
from .estimate import estimate
from .estimator import Estimator
from .measure_valued import MeasureValued
from .multi_sample import VIMCO
from .pathwise import Pathwise
from .rejection import RejectionPath
from .relaxed import GumbelSoftmax, StraightThrough
from .score_function import LeaveOneOut, ScoreFunction, SecondDraw, score_function
