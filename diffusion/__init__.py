"""Models, samplers and schedules of v-diffusion, imported when they are first used."""

from importlib import import_module
from typing import Any

from .models import get_model, get_models

MODULES = ("dpm_solver", "guidance", "methods", "noise", "sampling", "solvers", "utils")
__all__ = ["get_model", "get_models", "models", "sampling", "utils"]


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
