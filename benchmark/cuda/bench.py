"""The models that a GPU is tried with, and how pictures are compared."""

import importlib
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from CLIP import model as clip
from diffusion import get_model
from v_diffusion.studio.devices import DTYPES
from v_diffusion.studio.models import Models, for_drawing
from v_diffusion.weights import tensors

from .. import ROOT, weights

Numbers = dict[str, Any]
Figures = Iterator[tuple[str, Any]]

standin = cache(weights.standin)


def of_tests(name: str) -> Any:
    """Import a module of the tests."""
    path = str(ROOT / "tests")
    if path not in sys.path:
        sys.path.insert(0, path)
    return importlib.import_module(name)


class Bench(NamedTuple):
    """The device to try, or a CPU with small models: does it run?"""

    device: torch.device
    dry: bool

    def model(self, name: str, dtype: torch.dtype) -> nn.Module:
        """Return a diffusion model as `load_model` does, but for its memory format."""
        if self.dry:
            model: nn.Module = of_tests("networks").make("cc12m_1")
        else:
            with clip.on_meta():
                model = get_model(name)()
            tensors.load_into(model, standin(name), name)
        return model.eval().requires_grad_(False).to(self.device, dtype)

    def clip(self, dtype: torch.dtype) -> clip.CLIP:
        if self.dry:
            model: clip.CLIP = of_tests("networks").make("clip").clip
        else:
            model = clip.build_model(standin("clip_vit_b_16"))
        model = clip.half_precision(model, dtype).to(self.device)
        return model.eval().requires_grad_(False)

    def models(self, name: str, dtype: torch.dtype) -> Models:
        """Return models as the program draws with them."""
        model = self.model(name, dtype).to(memory_format=torch.channels_last)
        return for_drawing(Models(model, self.clip(dtype)), self.device, checkpointing=False)

    def dtype(self, precision: str) -> torch.dtype:
        return torch.float32 if self.dry else DTYPES[precision]


def off_by(found: Tensor, expected: Any) -> float:
    """Return the root mean square of the difference, as a share of that of what is expected."""
    expected = torch.as_tensor(expected, dtype=torch.float64)
    difference = found.detach().double().cpu() - expected
    return float(difference.norm() / expected.norm())


def grey_levels(off: np.ndarray) -> Numbers:
    shares = {f"within {n}": float((off <= n).mean()) for n in (1, 2, 4)}
    return {"most": int(off.max()), "mean": float(off.mean()), **shares}


def golden() -> dict[str, np.ndarray]:
    """Return the golden numbers of the original's two releases."""
    with np.load(weights.DATA / "golden.npz") as one, np.load(weights.DATA / "later.npz") as other:
        return {**one, **other}
