"""The address that `python -m checkpoints` had first, for scripts that fetch weights by it."""

import sys

from checkpoints.command import main

if __name__ == "__main__":
    sys.exit(main(prog="python -m diffusion.checkpoints"))
