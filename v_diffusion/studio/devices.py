"""Devices of this machine, and the types that they compute in."""

import torch

from ..shell.errors import NoDevice, UserError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# What computes in a type, and the types of devices other than CUDA.
FOR = {"fp16": "CUDA", "bf16": "CUDA and CPUs"}
OTHERS = {"cpu": ("bf16", "fp32"), "mps": ("fp32",)}


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


def usual_precision(device: torch.device) -> str:
    """Return the precision that a device draws in by default."""
    return "fp16" if device.type == "cuda" else "fp32"


def pick_precision(name: str | None, device: torch.device) -> str:
    """Return the precision of this name, by default the usual one. Raise UserError if the device
    doesn't have it.
    """
    found = usual_precision(device) if name is None else name
    own = OTHERS.get(device.type, tuple(DTYPES))
    if found not in own:
        where = "a CPU" if device.type == "cpu" else device.type.upper()
        what = f"is for {FOR[found]}" if found in FOR else "is none"
        raise UserError(f"--precision: {found} {what}; use {' or '.join(own)} on {where}")
    return found
