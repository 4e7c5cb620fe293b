import io
import json
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from records import PLAIN, RECORD, texts

from v_diffusion.images import metadata
from v_diffusion.images.metadata import infotext

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


def test_infotext_of_one_prompt():
    assert infotext(PLAIN) == (
        "red apple\n"
        "Steps: 50, Sampler: DDIM, CLIP guidance scale: 500, Seed: 7, Size: 64x48, "
        "Model hash: a05dd37d00, Model: emoji_64, CLIP hash: 912732a100, CLIP: emoji_64_clip, "
        "Version: v-diffusion 0.1.0"
    )


def test_infotext_parsed_back():
    assert parse(infotext(RECORD | {"seed": 2**64 - 1})) == (
        "red apple\nmorning: 7 o'clock\nlight:2.25",
        "fog, thick:0.5",
        {
            "Steps": "50",
            "Sampler": "DDIM",
            "CLIP guidance scale": "500",
            "Seed": "18446744073709551615",
            "Size": "64x48",
            "Model hash": "a05dd37d00",
            "Model": "emoji_64",
            "Eta DDIM": "0.5",
            "CLIP hash": "912732a100",
            "CLIP": "emoji_64_clip",
            "Image 1": "http://localhost/a,b.png:1.5",
            "Image 1 hash": "cccccccccc",
            "Version": "v-diffusion 0.1.0",
        },
    )


@pytest.mark.parametrize(
    "model",
    [
        "a, b",
        "Steps: 1",
        'say "a"',
        '"a"',
        "two\nlines",
        "C:\\x",
        " edge ",
        "é, 字",
        '"',
        "\x1b[31m",
        "\x7f\x9b",
        "a\u202eb",
        "tab\t",
    ],
)
def test_any_value_survives_in_the_infotext(model):
    text = infotext(PLAIN | {"model": model})
    assert len(text.split("\n")) == 2
    assert parse(text)[2]["Model"] == model
    assert parse(text)[2]["Version"] == "v-diffusion 0.1.0"


def test_classifier_free_guidance_has_the_formats_own_name():
    text = infotext(PLAIN | {"script": "cfg_sample", "prompts": texts(("a", 3), ("b", -0.5))})
    assert "CFG scale: 2.5, " in text and "CLIP guidance" not in text


def test_control_characters_are_escaped_in_the_infotext_and_kept_in_the_record():
    made = PLAIN | {"prompts": texts(("\x1b]0;title\x07 a\nb\u202e", 1), ("\x9b2J", -1))}
    text = infotext(made)
    assert text.startswith("\\x1b]0;title\\x07 a\nb\\u202e\nNegative prompt: \\x9b2J\nSteps: 50")
    image = Image.open(io.BytesIO(saved("PNG", made)))
    assert metadata.record_in(image)["prompts"] == made["prompts"]


def test_what_is_no_picture_has_no_record(tmp_path):
    for content in (b"", b"no picture", saved("PNG", PLAIN)[:-20]):
        (tmp_path / "a.png").write_bytes(content)
        assert metadata.read(tmp_path / "a.png") is None
    PICTURE.save(tmp_path / "b.png")
    assert metadata.read(tmp_path / "b.png") is None
    for path in (tmp_path, tmp_path / "none.png"):
        with pytest.raises(OSError):
            metadata.read(path)


def test_infotext_without_a_text_prompt():
    text = infotext(PLAIN | {"prompts": []})
    assert text.startswith("Steps: 50, ")


def test_infotext_replaces_what_is_no_text():
    made = PLAIN | {"prompts": texts(("caf\udce9", 1.0))}
    assert infotext(made).startswith("caf?\n")


@SUFFIXED
@pytest.mark.parametrize("text", ["red apple", 'é, 字: 🍎\n"x" \\', "caf\udce9", "a\0b", ""])
def test_the_record_comes_back(tmp_path, format, text):
    made = RECORD | {"prompts": texts((text, 0.1))}
    path = tmp_path / "x"
    path.write_bytes(saved(format, made))
    assert metadata.read(path) == made


@pytest.mark.parametrize("text, kind", [("café", b"tEXt"), ("字", b"iTXt")])
def test_png_chunks(text, kind):
    made = PLAIN | {"prompts": texts((text, 1.0))}
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
    made = PLAIN | {"prompts": texts((prompt, 1.0))}
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
    made = PLAIN | {"prompts": texts(("x" * 30_000, 1.0))}
    with pytest.raises(ValueError, match="EXIF data is too long"):
        saved("JPEG", made)
    for format in ("PNG", "WEBP"):
        assert metadata.record_in(metadata.whole_image(saved(format, made))) == made


def is_whole(content: bytes) -> bool:
    try:
        return bool(metadata.whole_image(content))
    except ValueError:
        return False


@SUFFIXED
def test_every_truncated_file_is_found_out(format):
    content = saved(format, PLAIN)
    ends = {*range(0, len(content), 97), *range(len(content) - 40, len(content))}
    assert [end for end in ends if is_whole(content[:end])] == []
    assert is_whole(content) and is_whole(content + b"more")


def test_a_flipped_bit_in_a_png_is_found_out():
    content = saved("PNG", PLAIN)
    for at in range(8, len(content), 61):
        damaged = bytearray(content)
        damaged[at] ^= 1
        assert not is_whole(bytes(damaged)), at


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
