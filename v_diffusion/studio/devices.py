"""Devices of this machine."""

import torch

from ..shell.errors import NoDevice


def pick_device(name: str | None, local_rank: int = 0) -> torch.device:
    """Return the device of this name, by default the best. Raise NoDevice if there is none.

    Where there are several GPUs and none is named by its number, each local rank gets its own.
    """
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    found = [*gpus, *["mps"] * torch.backends.mps.is_available(), "cpu"]  # the best first
    if gpus and name in (None, "cuda"):
        return torch.device(gpus[local_rank % len(gpus)])
    known = {*found, "cpu:0", *(one.split(":")[0] for one in found)}
    if name is not None and name not in known:
        raise NoDevice(f"--device: there is no {name!r} here; use one of {', '.join(found)}")
    return torch.device(found[0] if name is None else name.replace("cpu:0", "cpu"))
