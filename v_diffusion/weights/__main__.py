"""`python -m v_diffusion.weights`."""

import sys

from .command import command

if __name__ == "__main__":
    sys.exit(command("python -m v_diffusion.weights"))
