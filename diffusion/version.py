"""The program's version, as it stands in pyproject.toml too."""

__version__ = "0.1.0"
