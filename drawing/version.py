"""The program's version, which everybody under this package has to know, too."""

from checkpoints.version import __version__

__all__ = ["__version__"]
