"""Writes the card of emoji_64: figures, pictures, recipe, licence. `python -m training.card`."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image

from v_diffusion import Job, Studio
from v_diffusion.images.contact_sheet import make_sheet
from v_diffusion.weights import store

from . import clip, data, evaluate, unet

GRID = (
    "red apple, pizza, hamburger, strawberry, doughnut, birthday cake, watermelon, cup of coffee, "
    "fox, panda, owl, octopus, butterfly, frog, unicorn, dragon, "
    "rocket, car, bicycle, sailboat, castle, volcano, rainbow, planet earth, "
    "robot, ghost, halloween pumpkin, crown, guitar, teddy bear, red heart, star"
).split(", ")
NEW = ("blue apple", "purple car", "pink frog", "cat and pizza", "red heart and yellow star")
NEW_SEEDS = 6
SIZED = ("fox", "rocket")
MODIFIED = ("green apple", "yellow apple:2", "red heart:2", "tomato:2")

TEMPLATE = Path(__file__).with_name("card.template.md")


def save(picture: Image.Image, name: str) -> None:
    """Write a picture of the card at twice its size."""
    size = picture.width * 2, picture.height * 2
    large = picture.resize(size, Image.Resampling.LANCZOS)
    large.save(store.FOLDER / f"emoji_64_{name}.png", optimize=True)


def strip(pictures: Sequence[Image.Image], gap: int = 8) -> Image.Image:
    """Return pictures of any sizes in a row."""
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    out = Image.new("RGB", (width, max(picture.height for picture in pictures)), "lightgrey")
    x = 0
    for picture in pictures:
        out.paste(picture, (x, 0))
        x += picture.width + gap
    return out


def draw() -> None:
    """Draw all pictures of the card, by the defaults of `clip_sample.py` unless it says more."""
    studio = Studio("cpu")

    def one(words: Sequence[str] | str = (), **options: Any) -> Image.Image:
        return studio.draw(Job(words, model="emoji_64", **options))

    save(make_sheet([one(word) for word in GRID], 8), "grid")
    new = [one(words, seed=seed) for words in NEW for seed in range(NEW_SEEDS)]
    save(make_sheet(new, NEW_SEEDS), "new")
    save(strip([one(seed=seed) for seed in range(8)]), "nothing")
    sizes = [(64, 64), (128, 64), (64, 128), (128, 128)]
    save(strip([one(word, size=size) for word in SIZED for size in sizes]), "sizes")
    apple = one("red apple")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "apple.png"
        apple.save(path)
        how = {"script": "cfg_modify_image", "init": str(path), "method": "ddim", "steps": 25}
        save(strip([apple, *(one(words, **how) for words in MODIFIED)]), "modified")


def file_rows() -> str:
    out = ""
    for name in ("emoji_64", "emoji_64_clip"):
        card = store.cards()[name]
        path = store.FOLDER / card.file
        count = sum(t.numel() for t in torch.load(path, weights_only=True).values())
        out += f"| `{card.file}` | {count:,} | {card.bytes:,} | `{card.sha256}` |\n"
    return out


def write() -> None:
    """Draws the card's pictures, measures its figures and writes it, into checkpoints/."""
    models = evaluate.load()
    pictures = data.load()
    sampling = store.cards()["emoji_64"].sampling
    draw()
    figures = evaluate.measure(models, pictures)
    recognised = {row.prompts: row.nearest for row in figures}
    emoji = [p for p in pictures if not p.recoloured]
    text = TEMPLATE.read_text(encoding="utf-8").format(
        names=len(emoji),
        count=len(GRID),
        files=file_rows(),
        things=len(data.RECOLOURED),
        copies=len(pictures) - len(emoji),
        held=", ".join(sorted(data.HELD_OUT)),
        captions=sum(len(p.captions) for p in pictures),
        clip_steps=clip.Recipe.steps,
        clip_batch=clip.Recipe.batch,
        text_steps=clip.TEXT.steps,
        on_steps=clip.ON.steps,
        colours=", ".join(data.COLOURS),
        steps_trained=unet.Recipe.steps,
        batch=unet.Recipe.batch,
        image_share=unet.Recipe.image_share,
        left_out=unet.Recipe.left_out,
        at_once=evaluate.BATCH,
        prompts=len(data.paraphrases()),
        pictures=len(pictures),
        figures=evaluate.rows(figures),
        same=recognised["pictures, as it is"],
        grey=recognised["pictures, grey"],
        clip_figures=clip.show(clip.accuracies(models.clip, pictures, data.paraphrases())),
        last_seed=NEW_SEEDS - 1,
        new=", ".join(NEW),
        **sampling,
    )
    (store.FOLDER / "emoji_64.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
