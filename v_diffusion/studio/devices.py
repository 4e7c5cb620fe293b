"""Devices of this machine, and the types that they compute in."""

import torch

from ..shell.errors import NoDevice, UserError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
OTHERS = {"cpu": ("bf16", "fp32"), "mps": ("fp32",)}  # of devices other than CUDA


def pick_device(name: str | None, local_rank: int = 0) -> torch.device:
    """Return the device of this name, by default the best, of several GPUs each rank's own."""
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
    """Return the precision of this name, by default the usual one. Raises UserError."""
    found = usual_precision(device) if name is None else name
    own = OTHERS.get(device.type, tuple(DTYPES))
    if found not in own:
        remedy = f"use {' or '.join(own)}"
        raise UserError(f"--precision: {found} is not for {device.type.upper()}; {remedy}")
    return found
