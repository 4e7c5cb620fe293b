"""Stand-in weights for the models that don't ship, as the tests have them."""

import json
import runpy
from concurrent.futures import ThreadPoolExecutor

from torch import Tensor

from training import state
from v_diffusion.weights import store

from . import ROOT, STATE, Files

DATA = ROOT / "tests" / "data"


def standin(name: str) -> dict[str, Tensor]:
    """Return the weights of a manifest, each a function of its name."""
    made = runpy.run_path(str(DATA / "standin_weights.py"))
    shapes = json.loads((DATA / f"{name}.manifest.json").read_text())
    recipe = made["RECIPES"].get(name, {})
    with ThreadPoolExecutor() as pool:
        tensors = pool.map(lambda item: made["fill"](*item, **recipe), shapes.items())
        found: dict[str, Tensor] = dict(zip(shapes, tensors))
    # CLIP's are published in fp16.
    return {k: v.half().float() for k, v in found.items()} if "clip" in name else found


def cc12m_1() -> Files:
    """Return CC12M_1 and CLIP ViT-B/16, 3 GB, made where they aren't there."""
    paths = [STATE / f"{name}.pth" for name in ("cc12m_1", "clip_vit_b_16")]
    for path in paths:
        if not path.exists():
            state.save(standin(path.stem), path)
    return Files("cc12m_1", *paths)


def emoji_64() -> Files:
    """Return the model that ships."""
    return Files("emoji_64", store.obtain("emoji_64"), store.obtain("emoji_64_clip"))
