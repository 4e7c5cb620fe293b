"""Records of pictures, for the tests of what becomes of them."""

from typing import Any

from PIL import Image

from v_diffusion.images.inputs import Input, Inputs
from v_diffusion.images.record import Sources, record
from v_diffusion.job.job import Job

SOURCES = Sources(
    model_sha256="a05dd37d" + "0" * 56,
    clip_sha256="912732a1" + "0" * 56,
    torch_version="2.14.0",
    version="0.1.0",
)
JOB = Job(
    prompts=("red apple", "fog, thick:-0.5", "morning: 7 o'clock\nlight:2.25"),
    images=("http://localhost/a,b.png:1.5",),
    model="emoji_64",
    steps=50,
    eta=0.5,
    clip_guidance_scale=500,
    size=(64, 48),
    seed=7,
)
IMAGE = Input(Image.new("RGB", (1, 1)), "c" * 64)
RECORD: dict[str, Any] = record(JOB, Inputs((IMAGE,)), SOURCES, 3)
# Of one text, of DDIM.
PLAIN = RECORD | {"prompts": [{"text": "red apple", "weight": 1.0}], "images": [], "eta": 0.0}


def texts(*prompts: tuple[str, float]) -> list[dict[str, Any]]:
    """Prompts as a record has them."""
    return [{"text": text, "weight": weight} for text, weight in prompts]
