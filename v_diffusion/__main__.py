"""`python -m v_diffusion` is no program; this says which there are."""

import sys

from v_diffusion.job.script import SCRIPTS
from v_diffusion.shell.console import note

if __name__ == "__main__":
    files = ", ".join(f"{name}.py" for name in SCRIPTS)
    note(f"python -m v_diffusion: it is a library; the programs are {files} and make_grid.py")
    sys.exit(2)
