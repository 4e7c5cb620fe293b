"""The program's version; the package's is read from here."""

__version__ = "0.2.0"
