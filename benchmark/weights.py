"""Stand-in weights for the models that don't ship, as the tests have them."""

import json
import runpy
from pathlib import Path
from typing import Any

from diffusion import get_model
from training import state

from . import ROOT, Files

DATA = ROOT / "tests" / "data"


def build(manifest: str, path: Path, **options: Any) -> Path:
    """The file of weights that are a function of their names, made if it isn't there."""
    if not path.exists():
        state_dict = runpy.run_path(str(DATA / "standin_weights.py"))["state_dict"]
        shapes = json.loads((DATA / f"{manifest}.manifest.json").read_text())
        state.save(state_dict(shapes, **options), path)
    return path


def cc12m_1(folder: Path) -> Files:
    """CC12M_1 and CLIP ViT-B/16, 3 GB."""
    return Files(
        "cc12m_1",
        build("cc12m_1", folder / "cc12m_1.pth"),
        build("clip_vit_b_16", folder / "clip_vit_b_16.pth", half=True),
    )


def emoji_64() -> Files:
    """The model that ships."""
    name = get_model("emoji_64").clip_model
    folder = ROOT / "checkpoints"
    return Files("emoji_64", folder / "emoji_64.pth", folder / f"{name}.pth")
