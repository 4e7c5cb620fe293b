"""How PyTorch's threads wait for work, said before PyTorch is imported. Imports no torch."""

import os
from collections.abc import MutableMapping

# GCC's OpenMP runtime, which PyTorch computes with on Linux, lets a thread that has nothing to do
# turn in a circle for some milliseconds, in case that work comes. Where another program wants the
# processor too, those who wait take it from those who work: everything is ten times as slow. So
# many rounds, some ten microseconds, are enough for what comes at once.
SPINS = "GOMP_SPINCOUNT"
ROUNDS = 2000
# Who has set one of these has decided.
DECIDED = (SPINS, "OMP_WAIT_POLICY")


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Sets it for this process and those that it starts."""
    if not any(name in environment for name in DECIDED):
        environment[SPINS] = str(ROUNDS)
