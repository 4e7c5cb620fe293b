"""The program around the models: a `Job` decides a picture, a `Studio` draws it.

Nothing is imported before it is used, and importing `Job` imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .job.job import Job
    from .studio.studio import Studio

__all__ = ["Job", "Studio"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        room = name.lower()
        return getattr(import_module(f".{room}.{room}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
