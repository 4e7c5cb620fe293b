"""Whole runs of the original's scripts: their commands, and the pictures that they wrote."""

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from v_diffusion import Studio
from v_diffusion.cli.arguments import parse
from v_diffusion.cli.program import request_of
from v_diffusion.job.script import SCRIPTS
from v_diffusion.run.request import Order
from v_diffusion.studio.models import Models

DATA = Path(__file__).with_name("data")


def cases(folder: str) -> list[dict[str, Any]]:
    """The runs whose pictures are in a folder of the tests' data."""
    found = json.loads((DATA / folder / f"{folder}.json").read_text())
    return [{"script": "clip_sample.py", "folder": folder} | case for case in found]


EARLIER, LATER = cases("e2e"), cases("later")


def model_of(case: dict[str, Any]) -> str:
    """The model that a case is drawn with."""
    argv = case["argv"]
    if "--model" in argv:
        return argv[argv.index("--model") + 1]
    return "cc12m_1" if case["script"] == "clip_sample.py" else "cc12m_1_cfg"


def order_of(case: dict[str, Any], folder: Path) -> Order:
    """What a case's command asks for, in a folder that gets the pictures that it names."""
    for name in ("later/init.png", "e2e/prompt.png"):
        shutil.copy(DATA / name, folder)
    name = case["script"].removesuffix(".py")
    parser = importlib.import_module(name).build_parser()
    script = SCRIPTS[name]
    (order,) = request_of(parse(parser, case["argv"], script), script).orders
    assert isinstance(order, Order)
    return order


def grey_levels_off(order: Order, studio: Studio, case: dict[str, Any]) -> np.ndarray:
    """By how much each value of a drawn picture is not the original's."""
    (picture,) = studio.draw_batch([order.job], [order.inputs], disable=True)
    (expected,) = case["images"]
    theirs = np.asarray(Image.open(DATA / case["folder"] / expected)).astype(int)
    ours = np.asarray(picture).astype(int)
    assert ours.shape == theirs.shape
    return np.abs(ours - theirs)


def share_within_one_level(order: Order, studio: Studio, case: dict[str, Any]) -> float:
    """How many of a drawn picture's values are the original's to one grey level."""
    return float((grey_levels_off(order, studio, case) <= 1).mean())


class Lent(Studio):
    """A studio with models that are there already."""

    def __init__(self, models: Models, device: str = "cpu") -> None:
        super().__init__(device)
        self.models = models

    def load(self, job: object) -> Models:
        return self.models
