"""The training set: emoji of the Noto Color Emoji font, recoloured copies, their captions."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

CAPTIONS = Path(__file__).with_name("captions.json")
SHEET = Path(__file__).with_name("emoji.png")
PARAPHRASES = Path(__file__).with_name("paraphrases.json")
SIZE = 64
COLUMNS = 26
FONT_SIZE = 109  # the one size of the font's bitmaps
CANVAS, CROP = 160, 136  # the widest emoji is 136 pixels wide


@dataclass(frozen=True)
class Colour:
    """What coloured pixels are turned to."""

    hue: float  # degrees
    saturation: float = 1.0  # times what it was
    value: tuple[float, float] = (0.0, 1.0)  # of what was black, and of what was brightest


# Recoloured copies teach colour and thing apart, so that a new pair works.
COLOURS = {
    "red": Colour(0),
    "orange": Colour(28),
    "yellow": Colour(52),
    "green": Colour(125),
    "blue": Colour(215),
    "purple": Colour(275),
    "pink": Colour(328),
    "white": Colour(40, 0.08, (0.62, 0.95)),
    "brown": Colour(22, 0.85, (0.0, 0.55)),
}

# Things of one strong colour, and the name that takes a colour word before it.
RECOLOURED = {
    name: name
    for name in (
        "car, balloon, rose, sunflower, butterfly, octopus, crab, frog, chick, dinosaur, "
        "strawberry, pear, banana, lemon, tomato, star, fire, mushroom, umbrella, t-shirt, dress, "
        "high heel, backpack, gift, diamond, crown, key, guitar, house, sailboat, devil face, "
        "maple leaf"
    ).split(", ")
}
RECOLOURED |= {"red apple": "apple", "tropical fish": "fish"}
RECOLOURED |= {"baseball cap": "cap", "evergreen tree": "tree"}

# Pairs that stay out of training, to see what a new colour gives.
HELD_OUT = {"blue apple", "purple car", "green rose", "pink frog", "red banana", "blue butterfly"}


@dataclass(frozen=True)
class Picture:
    """A training picture: its name, its captions (the name first), and 64x64 RGB pixels."""

    name: str
    captions: tuple[str, ...]
    pixels: npt.NDArray[np.uint8]
    recoloured: bool


def draw(emoji: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """One emoji, centred on white, [64, 64]."""
    image = Image.new("RGB", (CANVAS, CANVAS), "white")
    pen = ImageDraw.Draw(image)
    left, top, right, bottom = pen.textbbox((0, 0), emoji, font=font, embedded_color=True)
    corner = ((CANVAS - left - right) / 2, (CANVAS - top - bottom) / 2)
    pen.text(corner, emoji, font=font, embedded_color=True)
    edge = (CANVAS - CROP) // 2
    image = image.crop((edge, edge, edge + CROP, edge + CROP))
    return image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def main_hue(hsv: npt.NDArray[np.float64]) -> float:
    """The mean hue of the coloured pixels in degrees."""
    angle = hsv[..., 0] / 255 * 2 * np.pi
    weight = (hsv[..., 1] / 255) * (hsv[..., 2] / 255)
    weight = np.where(hsv[..., 1] > 50, weight, 0)
    return float(np.degrees(np.angle((weight * np.exp(1j * angle)).sum())) % 360)


def recolour(image: Image.Image, colour: Colour) -> Image.Image:
    """Turns the hues near the picture's main one so that this one becomes the colour's."""
    hsv = np.asarray(image.convert("HSV")).astype(float)
    mean = main_hue(hsv)
    hue, saturation, value = np.moveaxis(hsv, 2, 0)
    off = (hue / 255 * 360 - mean + 180) % 360 - 180
    # What has no colour of its own stays as it is: outlines, highlights, the ground.
    least = 0 if colour.saturation == 1 else 30
    near = (np.abs(off) < 60) & (saturation > least)
    low, high = colour.value
    turned = np.stack(
        [
            (colour.hue + off * 0.7) % 360 / 360 * 255,
            saturation * colour.saturation,
            low * 255 + value * (high - low),
        ],
        axis=2,
    )
    hsv = np.where(near[..., None], turned, hsv)
    return Image.fromarray(hsv.round().astype(np.uint8), "HSV").convert("RGB")


def colour_of(hue: float) -> str:
    """The colour of full strength that is nearest to a hue."""
    strong = {name: c.hue for name, c in COLOURS.items() if c == Colour(c.hue)}
    return min(strong, key=lambda name: abs((strong[name] - hue + 180) % 360 - 180))


def colour_captions(colour: str, thing: str) -> tuple[str, ...]:
    return (
        f"{colour} {thing}",
        f"a {colour} {thing}",
        f"{thing} in {colour}",
        f"{colour} coloured {thing}",
    )


def paraphrases() -> dict[str, str]:
    """Name to a phrase that no caption holds, to measure what unseen words give."""
    found: dict[str, str] = json.loads(PARAPHRASES.read_text(encoding="utf-8"))
    return found


def draw_sheet(font_file: str) -> Image.Image:
    """All emoji of captions.json in rows of `COLUMNS`."""
    font = ImageFont.truetype(font_file, FONT_SIZE)
    emoji = [entry["emoji"] for entry in entries().values()]
    sheet = Image.new("RGB", (COLUMNS * SIZE, -(-len(emoji) // COLUMNS) * SIZE), "white")
    for i, one in enumerate(emoji):
        sheet.paste(draw(one, font), (i % COLUMNS * SIZE, i // COLUMNS * SIZE))
    return sheet


def entries() -> dict[str, dict[str, Any]]:
    """Name to its emoji and captions, in the order of the sheet."""
    found: dict[str, dict[str, Any]] = json.loads(CAPTIONS.read_text(encoding="utf-8"))
    return found


def load() -> list[Picture]:
    """All training pictures: each emoji of captions.json, then the recoloured copies."""
    named = entries()
    unseen = set(paraphrases().values())
    sheet = Image.open(SHEET).convert("RGB")
    pictures, copies = [], []
    for i, (name, entry) in enumerate(named.items()):
        left, top = i % COLUMNS * SIZE, i // COLUMNS * SIZE
        image = sheet.crop((left, top, left + SIZE, top + SIZE))
        captions = [name, entry["emoji"]]
        captions += [c for c in entry["captions"] if c != name and c not in unseen]
        if name in RECOLOURED:
            thing = RECOLOURED[name]
            own = colour_of(main_hue(np.asarray(image.convert("HSV")).astype(float)))
            captions += [c for c in colour_captions(own, thing) if c not in captions]
            for name_of, colour in COLOURS.items():
                words = colour_captions(name_of, thing)
                if name_of == own or words[0] in named or words[0] in HELD_OUT:
                    continue
                pixels = np.asarray(recolour(image, colour))
                copies.append(Picture(words[0], words, pixels, True))
        pictures.append(Picture(name, tuple(captions), np.asarray(image), False))
    return pictures + copies
