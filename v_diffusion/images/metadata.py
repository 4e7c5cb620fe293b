"""Metadata: a picture's record, into its file and back out.

It has two forms: the line of parameters that the image tools of this field read, and a JSON object
with everything.
"""

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, PngImagePlugin

from ..job.script import CLIP_SAMPLE
from ..shell.console import CONTROLS, escaped
from ..shell.reading import read_file
from .decode import open_image, said_in_words
from .record import PROGRAM  # the JSON's key

INFOTEXT = "parameters"  # the PNG chunk that the tools look for
SHORT_HASH = 10  # the hexadecimal digits of a hash that the tools show
EXIF_LIMIT = 65533  # what fits into one segment of a JPEG


def number(value: float) -> str:
    """Return a number in the fewest digits that tell it from all others."""
    return repr(value).removesuffix(".0")


def weighted(text: str, weight: float) -> str:
    return text if weight == 1 else f"{text}:{number(weight)}"


def quote(text: str) -> str:
    """Return a value in the format, in quotes if it has a comma, a colon or a control character."""
    plain = not re.search(r"[,:]", text) and text == text.strip() and text[:1] != '"'
    if plain and not CONTROLS.search(text):
        return text
    # JSON itself lets some of them through.
    quoted = json.dumps(text, ensure_ascii=False)
    return CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)


def infotext(record: Mapping[str, Any]) -> str:
    """Return a record in the format of AUTOMATIC1111's web interface, which many tools read.

    The prompts come first, each on its line. Those with a negative weight are the negative prompt.
    The last line is the parameters. What has no name in the format has one of ours. Control
    characters are escaped, but for newlines in prompts.
    """
    prompts = [(prompt["text"], prompt["weight"]) for prompt in record["prompts"]]
    guided = record["script"] == CLIP_SAMPLE.name
    # Without CLIP's guidance it is what the format means: the weight of the conditions together.
    own = sum(one["weight"] for one in record["prompts"] + record["images"])
    scale = record["clip_guidance_scale"] if guided else own
    prompts = [("\n".join(map(escaped, text.split("\n"))), weight) for text, weight in prompts]
    lines = [weighted(text, weight) for text, weight in prompts if weight >= 0]
    negative = [weighted(text, -weight) for text, weight in prompts if weight < 0]
    if negative:
        lines.append("Negative prompt: " + "\n".join(negative))
    values = {
        "Steps": str(record["steps"]),
        "Sampler": record["sampler"],
        # CLIP's not by the format's own name, which readers take for the classifier-free kind.
        "CLIP guidance scale" if guided else "CFG scale": number(scale),
        "Seed": str(record["seed"]),
        "Size": f"{record['width']}x{record['height']}",
        "Model hash": record["model_sha256"][:SHORT_HASH],
        "Model": record["model"],
    }
    if record["eta"]:
        values["Eta DDIM"] = number(record["eta"])
    if record["clip"]:
        values["CLIP hash"] = record["clip_sha256"][:SHORT_HASH]
        values["CLIP"] = record["clip"]
    if record["init"]:
        values["Init"] = record["init"]["image"]
        values["Init hash"] = record["init"]["sha256"][:SHORT_HASH]
    for name in ("starting_timestep", "max_timestep"):
        if record[name] is not None:
            values[name.replace("_", " ").capitalize()] = number(record[name])
    for i, image in enumerate(record["images"], 1):
        values[f"Image {i}"] = weighted(image["image"], image["weight"])
        values[f"Image {i} hash"] = image["sha256"][:SHORT_HASH]
    values["Version"] = f"{record['program']} {record['version']}"
    lines.append(", ".join(f"{name}: {quote(value)}" for name, value in values.items()))
    # A path or a prompt from the shell can hold bytes that are no text.
    return "\n".join(lines).encode("utf-8", "replace").decode("utf-8")


def exif(description: str, comment: bytes) -> bytes:
    """Return an EXIF block with an ImageDescription, in ASCII, and a UserComment."""
    tags = Image.Exif()
    tags[ExifTags.Base.ImageDescription] = description
    tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    # Pillow gives the comment the type BYTE, which readers of UserComment take for no text.
    as_byte, as_undefined = (struct.pack(">HH", ExifTags.Base.UserComment, type) for type in (1, 7))
    return tags.tobytes().replace(as_byte, as_undefined, 1)


def embedding(record: Mapping[str, Any], format: str) -> dict[str, Any]:
    """Return the options with which `Image.save` writes a record into a file.

    A PNG has the chunks `parameters` and `v-diffusion`. A JPEG or WebP has the parameters in EXIF's
    UserComment and, in its ImageDescription, a JSON object whose one key is `v-diffusion`.

    Args:
        format: "PNG", "JPEG" or "WEBP".

    Raises:
        ValueError: it is too long for the format.
    """
    # JSON in ASCII: no reader can get its encoding wrong, and no byte from a shell is lost.
    if format == "PNG":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text(INFOTEXT, infotext(record))
        chunks.add_text(PROGRAM, json.dumps(record))
        return {"pnginfo": chunks}
    comment = b"UNICODE\0" + infotext(record).encode("utf-16-be")
    block = exif(json.dumps({PROGRAM: record}), comment)
    if format == "JPEG" and len(block) > EXIF_LIMIT:
        raise ValueError(
            "the prompts are too long for a JPEG's metadata; "
            "shorten them, write .png or .webp, or leave the metadata out with --no-metadata"
        )
    return {"exif": block}


def is_cut_short(content: bytes, format: str | None) -> bool:
    """Return True if the end of a file is missing where Pillow wouldn't miss it.

    Something more after the end is no fault.
    """
    if format == "PNG":
        return b"IEND\xaeB`\x82" not in content
    if format == "JPEG":
        return b"\xff\xd9" not in content
    if format == "WEBP":
        return len(content) < 8 + int.from_bytes(content[4:8], "little")
    return False


def whole_image(content: bytes) -> Image.Image:
    """Return the image in a file's bytes, loaded, as it is stored.

    Raises:
        ValueError: it is no image, or is damaged, truncated or too large.
    """
    with said_in_words(content):
        open_image(content).verify()  # a PNG's checksums, which loading ignores
        image = open_image(content)
        image.load()
        if is_cut_short(content, image.format):
            raise ValueError("its end is missing")
    return image


def record_in(image: Image.Image) -> dict[str, Any] | None:
    """Return the record that came with a loaded image, None if there is none."""
    try:
        if image.format == "PNG":
            found = json.loads(image.info[PROGRAM])
        else:
            found = json.loads(image.getexif()[ExifTags.Base.ImageDescription])[PROGRAM]
    except Exception:  # the file may be anyone's, with anything in these places
        return None
    return found if isinstance(found, dict) else None


def read(path: Path) -> dict[str, Any] | None:
    """Return the record in a finished file, None if it has none or is not whole.

    Raises:
        OSError: the file can't be read.
    """
    content = read_file(path)
    try:
        return record_in(whole_image(content))
    except ValueError:
        return None
