"""From the shell to the files, and the Python API: a `Job` is what decides a picture, a `Studio`
draws it. Importing this imports no torch.
"""

from typing import TYPE_CHECKING, Any

from .job.job import Job

if TYPE_CHECKING:
    from .studio.studio import Studio

__all__ = ["Job", "Studio"]


def __getattr__(name: str) -> Any:
    if name == "Studio":
        from .studio.studio import Studio

        return Studio
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
