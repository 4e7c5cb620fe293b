"""Pictures as they are read: upright, over white, cut to a size."""

import hashlib
import io
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from picture_files import LEVELS, PICTURE, encoded, pixels
from PIL import Image

from v_diffusion.images import decode as pictures
from v_diffusion.images.decode import decode, open_picture, resize_and_center_crop

WHITE = (255, 255, 255)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP"])
def test_plain_pictures_are_as_pillow_converts_them(mode, format):
    content = encoded(Image.fromarray(LEVELS).convert(mode), format)
    expected = Image.open(io.BytesIO(content)).convert("RGB")
    assert pixels(decode(content)) == pixels(expected)


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "LAB"])
def test_other_modes_of_8_bits_are_as_pillow_converts_them(mode):
    image = Image.fromarray(LEVELS)
    if mode == "LAB":
        image = Image.merge("LAB", image.split())
    content = encoded(image.convert(mode), "TIFF")
    expected = Image.open(io.BytesIO(content)).convert("RGB")
    assert pixels(decode(content)) == pixels(expected)


def test_a_cmyk_jpeg_of_one_ink_has_its_colour():
    content = encoded(Image.new("CMYK", (8, 8), (0, 255, 0, 0)), "JPEG")
    assert pixels(decode(content))[0] == (255, 0, 255)


@pytest.mark.parametrize(
    "turn, expected",
    [
        (1, "abc def"),
        (2, "cba fed"),
        (3, "fed cba"),
        (4, "def abc"),
        (5, "ad be cf"),
        (6, "da eb fc"),
        (7, "fc eb da"),
        (8, "cf be ad"),
        (9, "abc def"),
    ],
)
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_the_exif_orientation_is_applied_once(turn, expected, format):
    image = Image.frombytes("L", (3, 2), b"abcdef")
    exif = Image.Exif()
    exif[0x0112] = turn
    picture = decode(encoded(image, format, exif=exif))
    rows = np.asarray(picture)[:, :, 0]
    assert " ".join(bytes(row).decode() for row in rows) == expected
    assert picture.getexif().get(0x0112, 1) == 1


def test_broken_exif_does_not_spoil_a_picture():
    content = encoded(Image.fromarray(LEVELS), exif=b"Exif\0\0nonsense")
    assert np.array_equal(decode(content), LEVELS)


HALF_RED = [WHITE, (255, 127, 127), (255, 0, 0)]


HALF_BLACK = [WHITE, (127, 127, 127), (0, 0, 0)]


@pytest.mark.parametrize(
    "mode, content, expected",
    [
        ("RGBA", bytes((255, 0, 0, 0, 255, 0, 0, 128, 255, 0, 0, 255)), HALF_RED),
        ("LA", bytes((0, 0, 0, 128, 0, 255)), HALF_BLACK),
    ],
)
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_an_alpha_channel_lies_over_white(mode, content, expected, format):
    image = Image.frombytes(mode, (3, 1), content)
    assert pixels(decode(encoded(image, format))) == expected


def test_pa_lies_over_white():
    image = Image.merge("PA", (Image.new("P", (3, 1)), Image.frombytes("L", (3, 1), b"\0\x80\xff")))
    image.putpalette([255, 0, 0])
    assert pixels(pictures.to_rgb(image)) == HALF_RED


def test_a_palette_with_transparency_lies_over_white():
    image = Image.frombytes("P", (3, 1), bytes((0, 1, 2)))
    image.putpalette([255, 0, 0] * 3)
    assert pixels(decode(encoded(image, transparency=b"\0\x80\xff"))) == HALF_RED
    one = decode(encoded(image, transparency=1))
    assert pixels(one) == [(255, 0, 0), WHITE, (255, 0, 0)]
    gif = Image.frombytes("P", (2, 1), bytes((0, 1)))
    gif.putpalette([255, 0, 0, 0, 0, 255])
    assert pixels(decode(encoded(gif, "GIF", transparency=1))) == [(255, 0, 0), WHITE]


def test_a_transparent_colour_lies_over_white():
    grey = Image.frombytes("L", (2, 1), b"\5\6")
    assert pixels(decode(encoded(grey, transparency=6))) == [(5, 5, 5), WHITE]
    colours = Image.frombytes("RGB", (2, 1), bytes((1, 2, 3, 1, 2, 4)))
    assert pixels(decode(encoded(colours, transparency=(1, 2, 3)))) == [WHITE, (1, 2, 4)]


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP"])
def test_an_animation_gives_its_first_frame(format):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    content = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert set(pixels(decode(content))) == {(255, 0, 0)}


@pytest.mark.parametrize("seed", range(20))
def test_a_picture_is_cut_as_torchvision_does(seed):
    from torchvision.transforms import functional as TF

    rng = np.random.default_rng(seed)
    w, h, width, height = rng.integers(3, 90, 4).tolist()
    picture = Image.fromarray(rng.integers(96, 160, (h, w, 3), dtype=np.uint8))
    found = resize_and_center_crop(picture, (width, height))
    factor = max(width / w, height / h)
    scaled = picture.resize((int(factor * w), int(factor * h)), Image.Resampling.LANCZOS)
    expected = TF.center_crop(scaled, [height, width])
    assert found.size == (width, height)
    assert np.array_equal(found, expected)


# Addresses


def test_the_hash_is_the_files(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(LEVELS).save(path)
    assert open_picture(path)[1] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_neither_torch_nor_requests_is_imported_for_a_file(tmp_path):
    (tmp_path / "a.png").write_bytes(PICTURE)
    code = (
        "import sys; from v_diffusion.images.decode import open_picture; open_picture(sys.argv[1]);"
        "print({'torch', 'requests', 'numpy'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("set()\n", "")


@pytest.mark.parametrize("size", [(1, 100_000), (100_000, 1), (2, 99_999)])
def test_a_sliver_takes_neither_time_nor_memory(size, monkeypatch):
    """Its middle is what fills the size; whole it would be scaled to 1.2 GB."""
    largest = []
    resize = Image.Image.resize

    def watched(self, size, *args):
        largest.append(size[0] * size[1])
        return resize(self, size, *args)

    monkeypatch.setattr(Image.Image, "resize", watched)
    sliver = Image.new("RGB", size, "red")
    middle = Image.new("RGB", [min(side, 99) for side in size], "blue")
    sliver.paste(middle, [(side - 99) // 2 if side > 99 else 0 for side in size])
    found = resize_and_center_crop(sliver, (64, 64))
    assert found.size == (64, 64) and set(pixels(found)) == {(0, 0, 255)}
    assert max(largest) <= 64 * 64 * 33
