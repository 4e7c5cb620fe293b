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

from ..job.prompt import Prompt, write_prompt
from ..job.script import CLIP_SAMPLE
from ..shell.console import escaped
from ..shell.reading import read_file
from .decode import open_image, said_in_words
from .record import PROGRAM  # the JSON's key

INFOTEXT = "parameters"  # the PNG chunk that the tools look for
SHORT_HASH = 10  # the hexadecimal digits of a hash that the tools show
ENDS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}


def number(value: float) -> str:
    """Return a number in the fewest digits that tell it from all others."""
    return repr(value).removesuffix(".0")


def quote(text: str) -> str:
    """Return a value in the format, in quotes if it has a comma, a colon or a control character."""
    if re.fullmatch(r'(?!")[^,:]*', text) and text == text.strip() and text.isprintable():
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def infotext(record: Mapping[str, Any]) -> str:
    """Return a record in the format of AUTOMATIC1111's web interface, which many tools read: a
    prompt a line, those of negative weight as the negative prompt, then a line of parameters.
    """
    prompts = [(prompt["text"], prompt["weight"]) for prompt in record["prompts"]]
    guided = record["script"] == CLIP_SAMPLE.name
    # Without CLIP's guidance it is what the format means: the weight of the conditions together.
    own = sum(one["weight"] for one in record["prompts"] + record["images"])
    scale = record["clip_guidance_scale"] if guided else own
    prompts = [("\n".join(map(escaped, text.split("\n"))), weight) for text, weight in prompts]
    lines = [write_prompt(Prompt(text, weight)) for text, weight in prompts if weight >= 0]
    negative = [write_prompt(Prompt(text, -weight)) for text, weight in prompts if weight < 0]
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
        "Eta DDIM": number(record["eta"]) if record["eta"] else "",
        "CLIP hash": (record["clip_sha256"] or "")[:SHORT_HASH],
        "CLIP": record["clip"] or "",
    }
    for name in ("init", "mask"):
        if record[name] is not None:
            values[name.capitalize()] = record[name]["image"]
            values[f"{name.capitalize()} hash"] = record[name]["sha256"][:SHORT_HASH]
    for name in ("starting_timestep", "max_timestep", "guide_between", "threshold"):
        if (value := record[name]) is not None:
            numbers = value if isinstance(value, list) else [value]
            values[name.replace("_", " ").capitalize()] = " ".join(map(number, numbers))
    for kind, key in (("images", "image"), ("guides", "clip")):
        for i, one in enumerate(record[kind], 1):
            name = f"{kind.capitalize()[:-1]} {i}"
            values[name] = write_prompt(Prompt(one[key], one["weight"]))
            values[f"{name} hash"] = one["sha256"][:SHORT_HASH]
    values["Version"] = f"{record['program']} {record['version']}"
    lines.append(", ".join(f"{name}: {quote(value)}" for name, value in values.items() if value))
    # A path or a prompt from the shell can hold bytes that are no text.
    return "\n".join(lines).encode("utf-8", "replace").decode("utf-8")


def embedding(record: Mapping[str, Any], format: str) -> dict[str, Any]:
    """Return the options with which `Image.save` writes a record into a PNG, JPEG or WEBP.

    A PNG has the chunks `parameters` and `v-diffusion`. A JPEG or WebP has the parameters in EXIF's
    UserComment and, in its ImageDescription, a JSON object whose one key is `v-diffusion`.
    """
    # JSON in ASCII: no reader can get its encoding wrong, and no byte from a shell is lost.
    if format == "PNG":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text(INFOTEXT, infotext(record))
        chunks.add_text(PROGRAM, json.dumps(record))
        return {"pnginfo": chunks}
    tags = Image.Exif()
    tags[ExifTags.Base.ImageDescription] = json.dumps({PROGRAM: record})
    comment = b"UNICODE\0" + infotext(record).encode("utf-16-be")
    tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    # Pillow gives the comment the type BYTE, which readers of UserComment take for no text.
    as_byte, as_undefined = (struct.pack(">HH", ExifTags.Base.UserComment, type) for type in (1, 7))
    return {"exif": tags.tobytes().replace(as_byte, as_undefined, 1)}


def whole_image(content: bytes) -> Image.Image:
    """Return the loaded image in a file's bytes, or raise ValueError, which says why not."""
    with said_in_words():
        open_image(content).verify()  # a PNG's checksums, which loading ignores
        image = open_image(content)
        image.load()
        # Pillow doesn't miss the last bytes.
        end = ENDS.get(image.format or "", b"")
        size = int.from_bytes(content[4:8], "little") + 8 if image.format == "WEBP" else 0
        if end not in content or len(content) < size:
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
    """Return the record in a finished file, None if it has none or is not whole. Raises OSError."""
    content = read_file(path)
    try:
        return record_in(whole_image(content))
    except ValueError:
        return None
