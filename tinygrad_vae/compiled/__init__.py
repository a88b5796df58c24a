"""A step recorded once and run again: ``tg.plan``."""

from .plan import plan
