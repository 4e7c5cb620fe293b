"""Devices of this machine."""

import torch

from ..shell.errors import NoDevice


def devices() -> list[str]:
    """Return the names of all devices, the best first."""
    found = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return found + ["mps"] * torch.backends.mps.is_available() + ["cpu"]


def pick_device(name: str | None, local_rank: int = 0) -> torch.device:
    """Return the device of this name, by default the best.

    Args:
        local_rank: the number of this process on this machine. Where there are several GPUs and
            none is named by its number, each process gets its own.

    Raises:
        NoDevice: there is no such device.
    """
    found = devices()
    gpus = [one for one in found if one.startswith("cuda")]
    if gpus and name in (None, "cuda"):
        return torch.device(name if name and len(gpus) == 1 else gpus[local_rank % len(gpus)])
    try:
        device = torch.device(found[0] if name is None else name)
    except RuntimeError:
        device = None
    names = {name for one in found for name in (one, one.split(":")[0])}
    if device is not None and str(device) in ("cpu:0", "mps:0"):  # the only one of its kind
        device = torch.device(device.type)
    if device is None or str(device) not in names:
        raise NoDevice(f"--device: there is no {name!r} here; use one of {', '.join(found)}")
    return device
