"""The models that a GPU is tried with, and how figures are compared and timed."""

import importlib
import json
import runpy
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from CLIP import model as clip
from diffusion import get_model
from v_diffusion.studio.devices import DTYPES
from v_diffusion.studio.models import Models, for_drawing

from .. import ROOT
from ..weights import DATA

Numbers = dict[str, Any]
Figures = Iterator[tuple[str, Any]]


def of_tests(name: str) -> Any:
    """Import a module of the tests."""
    path = str(ROOT / "tests")
    if path not in sys.path:
        sys.path.insert(0, path)
    return importlib.import_module(name)


@dataclass
class Bench:
    """The device, and weights that are made at their first use."""

    device: torch.device
    dry: bool
    weights: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def state_dict(self, name: str) -> dict[str, Tensor]:
        if name not in self.weights:
            made = runpy.run_path(str(DATA / "standin_weights.py"))
            shapes = json.loads((DATA / f"{name}.manifest.json").read_text())
            recipe = made["RECIPES"].get(name, {})
            with ThreadPoolExecutor() as pool:
                tensors = pool.map(lambda item: made["fill"](*item, **recipe), shapes.items())
                self.weights[name] = dict(zip(shapes, tensors))
            if name.startswith("clip"):
                rounded = {k: v.half().float() for k, v in self.weights[name].items()}
                self.weights[name] = rounded
        return self.weights[name]

    def model(self, name: str, dtype: torch.dtype) -> nn.Module:
        """A diffusion model as `load_model` makes it, but for its memory format."""
        networks = of_tests("networks") if self.dry else None
        if networks is not None:
            torch.manual_seed(0)
            model: nn.Module = networks.SmallCC12M()
        else:
            with clip.on_meta():
                model = get_model(name)()
            model.load_state_dict(self.state_dict(name), assign=True)
        return model.eval().requires_grad_(False).to(self.device, dtype)

    def clip(self, dtype: torch.dtype) -> clip.CLIP:
        if self.dry:
            torch.manual_seed(0)
            model: clip.CLIP = of_tests("networks").ImageTower().clip
        else:
            model = clip.build_model(self.state_dict("clip_vit_b_16"))
        model = clip.half_precision(model, dtype).to(self.device)
        return model.eval().requires_grad_(False)

    def models(self, name: str, dtype: torch.dtype) -> Models:
        """Models as the program draws with them."""
        model = self.model(name, dtype).to(memory_format=torch.channels_last)
        return for_drawing(Models(model, self.clip(dtype)), self.device, checkpointing=False)

    def dtype(self, precision: str) -> torch.dtype:
        return torch.float32 if self.dry else DTYPES[precision]


def off_by(found: Tensor, expected: Any) -> float:
    """The root mean square of the difference, as a share of that of what is expected."""
    expected = torch.as_tensor(expected, dtype=torch.float64)
    difference = found.detach().double().cpu() - expected
    return float(difference.norm() / expected.norm())


def grey_levels(off: np.ndarray) -> Numbers:
    shares = {f"within {n}": float((off <= n).mean()) for n in (1, 2, 4)}
    return {"most": int(off.max()), "mean": float(off.mean()), **shares}


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(DATA / f"{name}.npz") as arrays:
        return dict(arrays)


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(task: Callable[[], object], times: int = 1) -> float:
    """The seconds of a task, on the host's clock, with what it leaves for the device to do."""
    task()
    wait()
    begun = time.perf_counter()
    for _ in range(times):
        task()
    wait()
    return (time.perf_counter() - begun) / times
