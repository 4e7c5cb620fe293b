"""Files that are no pictures, or damaged, or too large, or ask for another program."""

import os
import struct
import subprocess
import threading
import warnings
import zlib

import numpy as np
import pytest
from picture_files import LEVELS, PICTURE, UNKNOWN, encoded, why
from PIL import Image

from v_diffusion.images import contact_sheet, metadata
from v_diffusion.images.decode import PictureError, open_picture
from v_diffusion.shell.errors import UserError


def test_a_pipe_is_read_to_its_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(PICTURE,))
    writer.start()
    assert np.array_equal(open_picture(tmp_path / "pipe")[0], LEVELS)
    writer.join()
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"",))
    writer.start()
    assert why(tmp_path / "pipe") == UNKNOWN
    writer.join()


# Files that are no good


def test_files_that_can_not_be_opened(tmp_path):
    assert why(tmp_path / "none.png") == "there is no such file"
    assert why(tmp_path) == "can't be opened: Is a directory"
    (tmp_path / "secret.png").write_bytes(PICTURE)
    os.chmod(tmp_path / "secret.png", 0)
    root = os.geteuid() == 0
    if root:  # who may read everything
        os.seteuid(65534)
    try:
        assert why(tmp_path / "secret.png") == "can't be opened: Permission denied"
    finally:
        if root:
            os.seteuid(0)
    (tmp_path / "file").touch()
    assert why(tmp_path / "file" / "a.png") == "can't be opened: Not a directory"


@pytest.mark.parametrize(
    "prompt, shown",
    [("", "''"), ("a\nb.png", r"'a\nb.png'"), ("a\0b", r"'a\x00b'"), ("\udcff", r"'\udcff'")],
)
def test_the_message_is_one_printable_line_whatever_the_prompt_is(prompt, shown):
    with pytest.raises(PictureError) as caught:
        open_picture(prompt)
    assert str(caught.value).startswith(f"{shown}: ") and str(caught.value).isprintable()


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"", UNKNOWN),
        (b"Dear diary", UNKNOWN),
        (PICTURE[:8], UNKNOWN),
        (b"\n<!DOCTYPE html><html>", UNKNOWN),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", UNKNOWN),
        (b"%PDF-1.4\n", UNKNOWN),
        (b"SIMPLE  =                    T", UNKNOWN),
    ],
)
def test_files_that_are_no_images(tmp_path, content, expected):
    (tmp_path / "a.png").write_bytes(content)
    assert why(tmp_path / "a.png") == expected


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_truncated_images(tmp_path, format, share):
    levels = np.random.default_rng(1).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(levels), format)
    (tmp_path / "a").write_bytes(content[: int(share * len(content))])
    text = why(tmp_path / "a")
    assert text.startswith("the image is truncated or damaged (") or text == UNKNOWN
    assert format == "TIFF" or text != UNKNOWN
    if format == "JPEG":
        assert "image file is truncated" in text


def test_damaged_images_never_raise_or_warn_anything_else(tmp_path, recwarn):
    """Single wrong bytes everywhere: a picture or a PictureError."""
    rng = np.random.default_rng(2)
    outcomes = set()
    for format in ("PNG", "GIF", "TIFF", "BMP", "WEBP", "ICO", "TGA", "AVIF"):
        content = encoded(Image.fromarray(LEVELS), format)
        for place in rng.integers(0, min(200, len(content)), 25):
            broken = bytearray(content)
            broken[place] ^= 1 + rng.integers(255)
            (tmp_path / "a").write_bytes(broken)
            try:
                outcomes.add(open_picture(tmp_path / "a")[0].mode)
            except PictureError:
                outcomes.add("PictureError")
    assert outcomes == {"RGB", "PictureError"} and not recwarn.list


@pytest.mark.parametrize("limit", [95, 40])  # Pillow warns above its limit, raises above twice that
def test_a_decompression_bomb_is_an_error_and_no_warning(tmp_path, monkeypatch, capfd, limit):
    (tmp_path / "a.png").write_bytes(PICTURE)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    filters = list(warnings.filters)
    assert why(tmp_path / "a.png") == "it has too many pixels; scale it down"
    assert warnings.filters == filters and capfd.readouterr() == ("", "")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 96)
    assert np.array_equal(open_picture(tmp_path / "a.png")[0], LEVELS)


def test_a_real_bomb(tmp_path):
    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 0, 0, 0, 0)
    body = b"IHDR" + header
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
        + encoded(Image.new("L", (1, 1)))[33:]
    )  # fmt: skip
    assert why(tmp_path / "a.png") == "it has too many pixels; scale it down"


def test_no_program_is_started_for_postscript(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(subprocess, "check_call", lambda *args, **_: started.append(args))
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **_: started.append(args))
    Image.fromarray(LEVELS).save(tmp_path / "a.eps")
    assert why(tmp_path / "a.eps") == UNKNOWN
    assert metadata.read(tmp_path / "a.eps") is None
    with pytest.raises(UserError, match="a.eps: it is not an image in a known format"):
        contact_sheet.open_whole(tmp_path / "a.eps")
    assert started == []


# Cut to a size
