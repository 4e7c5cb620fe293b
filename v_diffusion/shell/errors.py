"""Errors."""

from .console import OutputClosed
from .program import NoDevice, RunError, UserError

__all__ = ["NoDevice", "OutputClosed", "RunError", "UserError"]
