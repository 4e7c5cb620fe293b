"""What a bug report needs: `python -m v_diffusion` prints it."""

import os
import platform
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .shell import console, program
from .version import __version__

PACKAGES = ("torchvision", "numba", "numpy", "Pillow", "safetensors", "filelock")


def processor() -> str:
    """Return the name of the processor."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.partition(":")[2].strip() for x in lines if x.startswith("model name"))
    return platform.processor() or platform.machine()


def main() -> None:
    """Print it, a line for each subject."""
    import torch

    from .compute import kernels
    from .studio.devices import pick_device
    from .weights import store

    versions = {"v-diffusion": __version__, "Python": platform.python_version()}
    versions |= {"torch": torch.__version__, **dict.fromkeys(PACKAGES, "not installed")}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    device, compiled = pick_device(None), kernels.obstacle()
    if compiled is None:
        from .compute.kernels.compiler import FOLDER as compiled
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    console.print_line(", ".join(map(" ".join, versions.items())))
    console.print_line(f"{platform.platform()}, {os.cpu_count()} cores")
    console.print_line(f"device: {device} ({name}), {torch.get_num_threads()} threads")
    console.print_line(f"compiled kernels: {compiled}")
    console.print_line(f"program: {Path(__file__).parent}, weights: {store.download_folder()}")


if __name__ == "__main__":
    program.begin("python -m v_diffusion")
    sys.exit(program.exit_status("python -m v_diffusion", main))
