"""`python -m drawing` is no program; this says which there are."""

import sys

from checkpoints.console import note

from .scripts import SCRIPTS

if __name__ == "__main__":
    files = ", ".join(f"{name}.py" for name in SCRIPTS)
    note(f"python -m drawing: it is a library; the programs are {files} and make_grid.py")
    sys.exit(2)
