"""Writes the card of emoji_64: figures, pictures, recipe, licence. `python -m training.card`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image

from diffusion import utils
from v_diffusion import Job, Studio
from v_diffusion.weights import store

from . import clip, data, evaluate, tune, unet

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

FEWER_IMAGES = 4  # of the emoji as image prompts, for time

TEMPLATE = Path(__file__).with_name("card.template.md")


def sheet(pictures: torch.Tensor, columns: int) -> Image.Image:
    """Pictures [N, 3, 64, 64] in 0 to 1, in rows, at twice their size."""
    side = data.SIZE
    rows = -(-len(pictures) // columns)
    out = Image.new("RGB", (columns * side, rows * side), "white")
    for i, x in enumerate(pictures):
        corner = (i % columns * side, i // columns * side)
        out.paste(utils.to_pil_image(x * 2 - 1), corner)
    return out.resize((out.width * 2, out.height * 2), Image.Resampling.LANCZOS)


def strip(pictures: Sequence[Image.Image], gap: int = 8) -> Image.Image:
    """Pictures of any sizes in a row, at twice their size."""
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    out = Image.new("RGB", (width, max(picture.height for picture in pictures)), "lightgrey")
    x = 0
    for picture in pictures:
        out.paste(picture, (x, 0))
        x += picture.width + gap
    return out.resize((out.width * 2, out.height * 2), Image.Resampling.LANCZOS)


def draw_more() -> None:
    """What the card shows of no words, other sizes and other words."""
    studio = Studio("cpu")
    model: dict[str, Any] = {"model": "emoji_64"}
    nothing = [studio.draw(Job(seed=seed, **model)) for seed in range(8)]
    strip(nothing).save(store.FOLDER / "emoji_64_nothing.png", optimize=True)
    sizes = [(64, 64), (128, 64), (64, 128), (128, 128)]
    rows = [[studio.draw(Job(word, size=size, **model)) for size in sizes] for word in SIZED]
    strip([picture for row in rows for picture in row]).save(
        store.FOLDER / "emoji_64_sizes.png", optimize=True
    )
    apple = studio.draw(Job("red apple", **model))
    pictures = [apple]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "apple.png"
        apple.save(path)
        how = {**model, "script": "cfg_modify_image", "init": str(path), "method": "ddim"}
        pictures += [studio.draw(Job(words, steps=25, **how)) for words in MODIFIED]
    strip(pictures).save(store.FOLDER / "emoji_64_modified.png", optimize=True)


def file_rows() -> str:
    out = ""
    for name in ("emoji_64", "emoji_64_clip"):
        card = store.cards()[name]
        path = store.FOLDER / card.file
        count = sum(t.numel() for t in torch.load(path, weights_only=True).values())
        out += f"| `{card.file}` | {count:,} | {card.bytes:,} | `{card.sha256}` |\n"
    return out


def write(every: int = 1) -> None:
    """Draws the card's pictures, measures its figures and writes it, into checkpoints/.

    Args:
        every: the figures are those of every so many names.
    """
    models = evaluate.load()
    pictures = data.load()
    sampling = store.cards()["emoji_64"].sampling
    own = sampling["clip_guidance_scale"]
    steps, eta = int(sampling["steps"]), sampling["eta"]

    drawn = evaluate.draw(models, evaluate.jobs(GRID, own, steps=steps, eta=eta))
    sheet(drawn, 8).save(store.FOLDER / "emoji_64_grid.png", optimize=True)
    texts = [text for text in NEW for _ in range(NEW_SEEDS)]
    seeds = [seed for _ in NEW for seed in range(NEW_SEEDS)]
    drawn = evaluate.draw(models, evaluate.jobs(texts, own, seeds, steps, eta=eta))
    sheet(drawn, NEW_SEEDS).save(store.FOLDER / "emoji_64_new.png", optimize=True)

    draw_more()
    figures = [
        row for way in evaluate.ways() for row in evaluate.measure(models, pictures, way, every)
    ]
    figures += evaluate.measure_images(models, pictures, own, every * FEWER_IMAGES)
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
        text_steps=tune.Recipe.steps,
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
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--every", type=int, default=1, help="measure on every so many names only")
    write(p.parse_args().every)
