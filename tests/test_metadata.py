import dataclasses
import io
import json
import re
import shlex
import struct
import zlib

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from diffusion import metadata, methods
from diffusion.metadata import Settings, infotext, record

SETTINGS = Settings(
    prompts=(("red apple", 1.0), ("fog, thick", -0.5), ("morning: 7 o'clock\nlight", 2.25)),
    images=(("http://localhost/a,b.png", 1.5, "c" * 64),),
    model="emoji_64",
    model_sha256="a05dd37d" + "0" * 56,
    clip="ViT-B/16",
    clip_sha256="912732a1" + "0" * 56,
    steps=50,
    eta=0.5,
    clip_guidance_scale=500.0,
    width=64,
    height=48,
    torch_version="2.14.0",
    command=("clip_sample.py", "red apple", "--images", "it's.png:1.5"),
    version="0.1.0",
)
PLAIN = dataclasses.replace(SETTINGS, prompts=(("red apple", 1.0),), images=(), eta=0.0)
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
SUFFIXED = pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])


def saved(format: str, made: dict, **options) -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, format, **metadata.embedding(made, format), **options)
    return file.getvalue()


def parse(text: str) -> tuple[str, str, dict[str, str]]:
    """Prompt, negative prompt and parameters, as the tools that read this format take it apart."""
    *lines, last = text.split("\n")
    prompt, _, negative = "\n".join(lines).partition("Negative prompt: ")
    pairs = re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', last)
    values = {name: json.loads(value) if value[:1] == '"' else value for name, value in pairs}
    return prompt.rstrip("\n"), negative, values


def png_chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        kind, data = content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        (crc,) = struct.unpack_from(">I", content, at + 8 + length)
        assert crc == zlib.crc32(kind + data)
        found.append((kind, data))
        at += 12 + length
    return found


def test_the_version_is_that_of_the_project():
    line = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert metadata.program_version() == line[1]


def test_infotext_of_one_prompt():
    assert infotext(record(PLAIN, 7, 3)) == (
        "red apple\n"
        "Steps: 50, Sampler: DDIM, CFG scale: 500, Seed: 7, Size: 64x48, Model hash: a05dd37d00, "
        "Model: emoji_64, CLIP hash: 912732a100, CLIP: ViT-B/16, Version: v-diffusion 0.1.0"
    )


def test_infotext_parsed_back():
    assert parse(infotext(record(SETTINGS, 2**64 - 1, 0))) == (
        "red apple\nmorning: 7 o'clock\nlight:2.25",
        "fog, thick:0.5",
        {
            "Steps": "50",
            "Sampler": "DDIM",
            "CFG scale": "500",
            "Seed": "18446744073709551615",
            "Size": "64x48",
            "Model hash": "a05dd37d00",
            "Model": "emoji_64",
            "Eta DDIM": "0.5",
            "CLIP hash": "912732a100",
            "CLIP": "ViT-B/16",
            "Image 1": "http://localhost/a,b.png:1.5",
            "Image 1 hash": "cccccccccc",
            "Version": "v-diffusion 0.1.0",
        },
    )


@pytest.mark.parametrize(
    "model", ["a, b", "Steps: 1", 'say "a"', '"a"', "two\nlines", "C:\\x", " edge ", "é, 字", '"']
)
def test_any_value_survives_in_the_infotext(model):
    text = infotext(record(dataclasses.replace(PLAIN, model=model), 0, 0))
    assert len(text.split("\n")) == 2
    assert parse(text)[2]["Model"] == model
    assert parse(text)[2]["Version"] == "v-diffusion 0.1.0"


def test_infotext_without_a_text_prompt():
    text = infotext(record(dataclasses.replace(PLAIN, prompts=()), 0, 0))
    assert text.startswith("Steps: 50, ")


def test_infotext_replaces_what_is_no_text():
    made = record(dataclasses.replace(PLAIN, prompts=(("caf\udce9", 1.0),)), 0, 0)
    assert infotext(made).startswith("caf?\n")


def test_record():
    assert record(SETTINGS, 7, 3) == {
        "program": "v-diffusion",
        "version": "0.1.0",
        "torch": "2.14.0",
        "prompts": [
            {"text": "red apple", "weight": 1.0},
            {"text": "fog, thick", "weight": -0.5},
            {"text": "morning: 7 o'clock\nlight", "weight": 2.25},
        ],
        "images": [{"image": "http://localhost/a,b.png", "weight": 1.5, "sha256": "c" * 64}],
        "model": "emoji_64",
        "model_sha256": "a05dd37d" + "0" * 56,
        "clip": "ViT-B/16",
        "clip_sha256": "912732a1" + "0" * 56,
        "sampler": "DDIM",
        "seed": 7,
        "index": 3,
        "steps": 50,
        "eta": 0.5,
        "clip_guidance_scale": 500.0,
        "width": 64,
        "height": 48,
        "command": """clip_sample.py 'red apple' --images 'it'"'"'s.png:1.5' --seed 7 -n 1""",
    }


def test_the_command_keeps_its_prompts_after_a_double_dash():
    command = ("clip_sample.py", "--steps", "5", "--", "-odd prompt")
    line = record(dataclasses.replace(PLAIN, command=command), 9, 0)["command"]
    assert shlex.split(line) == [*command[:3], "--seed", "9", "-n", "1", "--", "-odd prompt"]


@SUFFIXED
@pytest.mark.parametrize("text", ["red apple", 'é, 字: 🍎\n"x" \\', "caf\udce9", "a\0b", ""])
def test_the_record_comes_back(tmp_path, format, text):
    made = record(dataclasses.replace(SETTINGS, prompts=((text, 0.1),)), 7, 3)
    path = tmp_path / "x"
    path.write_bytes(saved(format, made))
    assert metadata.read(path) == made


@pytest.mark.parametrize("text, kind", [("café", b"tEXt"), ("字", b"iTXt")])
def test_png_chunks(text, kind):
    made = record(dataclasses.replace(PLAIN, prompts=((text, 1.0),)), 7, 3)
    chunks = png_chunks(saved("PNG", made))
    assert [name for name, _ in chunks] == [b"IHDR", kind, b"tEXt", b"IDAT", b"IEND"]
    key, _, value = chunks[1][1].partition(b"\0")
    assert key == b"parameters"
    encoding = "latin-1" if kind == b"tEXt" else "utf-8"
    assert value.lstrip(b"\0") == infotext(made).encode(encoding)
    key, _, value = chunks[2][1].partition(b"\0")
    assert (key, json.loads(value)) == (b"v-diffusion", made)


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
@pytest.mark.parametrize("prompt", ["odd", "even"])
def test_user_comment(format, prompt):
    made = record(dataclasses.replace(PLAIN, prompts=((prompt, 1.0),)), 7, 3)
    content = saved(format, made)
    image = Image.open(io.BytesIO(content))
    comment = image.getexif().get_ifd(0x8769)[0x9286]
    assert comment == b"UNICODE\0" + infotext(made).encode("utf-16-be")
    # The entry itself: tag, type UNDEFINED, length, offset from the byte order mark on.
    entry = struct.pack(">HHI", 0x9286, 7, len(comment))
    at = content.index(entry) + len(entry)
    (offset,) = struct.unpack_from(">I", content, at)
    start = content.index(b"MM\0*") + offset
    assert content[start : start + len(comment)] == comment


def test_a_jpeg_has_no_room_for_a_very_long_prompt():
    made = record(dataclasses.replace(PLAIN, prompts=(("x" * 30_000, 1.0),)), 0, 0)
    with pytest.raises(metadata.MetadataError) as caught:
        saved("JPEG", made)
    assert str(caught.value) == (
        "the prompts are too long for a JPEG's metadata; "
        "shorten them, write .png or .webp, or leave the metadata out with --no-metadata"
    )
    for format in ("PNG", "WEBP"):
        assert metadata.record_in(metadata.decode(saved(format, made))) == made


@SUFFIXED
def test_every_truncated_file_is_found_out(format):
    content = saved(format, record(PLAIN, 0, 0))
    assert metadata.decode(content) is not None
    ends = {*range(0, len(content), 97), *range(len(content) - 40, len(content))}
    assert [end for end in ends if metadata.decode(content[:end]) is not None] == []
    assert metadata.decode(content + b"more") is not None


def test_a_flipped_bit_in_a_png_is_found_out():
    content = saved("PNG", record(PLAIN, 0, 0))
    for at in range(8, len(content), 61):
        damaged = bytearray(content)
        damaged[at] ^= 1
        assert metadata.decode(bytes(damaged)) is None, at


@pytest.mark.parametrize(
    "chunk", [None, "", "no JSON", "3", '"text"', "[" * 30_000, '{"v-diffusion": 3}']
)
def test_other_programs_files_have_no_record(tmp_path, chunk):
    options = {}
    if chunk is not None:
        exif = Image.Exif()
        exif[0x010E] = chunk
        options["exif"] = exif
    path = tmp_path / "x.jpg"
    PICTURE.save(path, **options)
    assert metadata.read(path) is None


def test_read_of_no_image_and_of_no_file(tmp_path):
    (tmp_path / "x.png").write_text("text")
    assert metadata.read(tmp_path / "x.png") is None
    with pytest.raises(FileNotFoundError):
        metadata.read(tmp_path / "y.png")


@pytest.mark.parametrize(
    "change, found",
    [
        ({"prompts": (("green apple", 1),)}, ("prompt 1", '"red apple"', '"green apple"')),
        ({"prompts": (("red apple", 2.5),)}, ("prompt 1's weight", "1.0", "2.5")),
        (
            {"prompts": (("red apple", 1), ("fog", 1))},
            ("prompt 2", "nothing", '"fog"'),
        ),
        ({"prompts": ()}, ("prompt 1", '"red apple"', "nothing")),
        (
            {"images": (("x.png", 1.0, "c" * 64),)},
            ("image prompt 1's SHA-256", "nothing", f'"{"c" * 64}"'),
        ),
        ({"model_sha256": "b" * 8}, ("the model's SHA-256", f'"a05dd37d{"0" * 56}"', '"bbbbbbbb"')),
        ({"clip_sha256": "b" * 8}, ("CLIP's SHA-256", f'"912732a1{"0" * 56}"', '"bbbbbbbb"')),
        ({"steps": 25}, ("steps", "50", "25")),
        ({"eta": 1.0}, ("eta", "0.0", "1.0")),
        ({"clip_guidance_scale": 0.0}, ("clip guidance scale", "500.0", "0.0")),
        ({"width": 32}, ("width", "64", "32")),
        ({"height": 32}, ("height", "48", "32")),
        ({"version": "0.2.0"}, ("the program's version", '"0.1.0"', '"0.2.0"')),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_difference(change, found):
    there = json.loads(json.dumps(record(PLAIN, 7, 3)))
    assert metadata.difference(there, record(dataclasses.replace(PLAIN, **change), 7, 3)) == found


def test_difference_of_seeds():
    assert metadata.difference(record(PLAIN, 7, 3), record(PLAIN, 8, 3)) == ("seed", "7", "8")


def test_what_makes_no_difference():
    there = json.loads(json.dumps(record(SETTINGS, 7, 3)))
    moved = dataclasses.replace(
        SETTINGS,
        images=(("b.png", 1.5, "c" * 64),),
        torch_version="2.6.0",
        command=("x",),
        clip_guidance_scale=500,
        model="renamed",
    )
    assert metadata.difference(there, record(moved, 7, 0)) is None


def test_every_method_has_a_name():
    assert tuple(metadata.SAMPLERS) == methods.METHODS
    made = record(dataclasses.replace(PLAIN, method="dpmpp_2m"), 7, 3)
    assert made["sampler"] == "DPM++ 2M" and "Sampler: DPM++ 2M," in infotext(made)
