"""The devices that there are, and the one to draw on."""

import torch

from ..shell.program import NoDevice


def devices() -> list[str]:
    """The devices that there are, the one to prefer first."""
    found = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return found + ["mps"] * torch.backends.mps.is_available() + ["cpu"]


def use_threads(count: int) -> None:
    """Computes in so many threads on a CPU from now on."""
    torch.set_num_threads(count)


def pick_device(name: str | None, local_rank: int = 0) -> torch.device:
    """The device of this name, or else the one to prefer.

    Args:
        local_rank: the number of this process among those of this machine. Where there are several
            GPUs and none is named by its number, each process has its own.

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
        raise NoDevice(f"--device: there is no {name!r} here, only {', '.join(found)}")
    return device
