"""Cards."""

from .store import CheckpointError

__all__ = ["CheckpointError"]
