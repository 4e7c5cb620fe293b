"""What the program takes: time, memory, and steps for a good picture.

`python -m benchmark` measures speed beside the plain way of doing the same work (`plain`),
`python -m benchmark.methods` the pictures of every sampler.
"""

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
STATE = Path(__file__).with_name("state")
SCRIPT = str(ROOT / "clip_sample.py")
PLAIN, HERE = "plain", "here"  # the ways to draw that are compared


class Files(NamedTuple):
    """A model by name, its file, and its CLIP's."""

    name: str
    model: Path
    clip: Path

    @property
    def options(self) -> list[str]:
        """The script's options for them."""
        files = ["--checkpoint", str(self.model), "--clip-checkpoint", str(self.clip)]
        return ["--model", self.name, *files]
