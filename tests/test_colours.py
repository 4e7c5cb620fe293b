"""Colours of pictures that are read and written: profiles, printers' inks, more than 8 bits."""

import io
import struct

import numpy as np
import pytest
from picture_files import LEVELS, encoded, pixels
from PIL import Image, ImageCms

from v_diffusion.images.contact_sheet import open_whole, write_sheet
from v_diffusion.images.decode import decode
from v_diffusion.images.output import encode


def icc(space: bytes, *tags: tuple[bytes, bytes]) -> bytes:
    """An ICC profile of a colour space, of version 4, whose own space is that of its tags."""
    table, data, at = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, content in tags:
        table += name + struct.pack(">II", at + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    pcs = b"Lab " if space == b"CMYK" else b"XYZ "
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    header = struct.pack(">II", at + len(data), 0) + b"\4\0\0\0" + kind + space + pcs + bytes(12)
    header += b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    return header + table + data


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * value) for value in values))


def display_p3() -> bytes:
    """The profile of screens with wider primaries and sRGB's own curve."""
    curve = struct.pack(
        ">5i", *(round(65536 * v) for v in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
    )
    curve = b"para\0\0\0\0\0\3\0\0" + curve
    columns = [(0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407)]
    tags = [(name, xyz(*column)) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns)]
    tags += [(name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")]
    return icc(b"RGB ", (b"wtpt", xyz(0.9642, 1, 0.8249)), *tags)


def grey_inks() -> bytes:
    """A printer's profile in which every ink is as dark as the next, and paper is white."""
    lut = (
        b"mft1\0\0\0\0"
        + bytes((4, 3, 2, 0))
        + struct.pack(">9i", *(65536 * (i in (0, 4, 8)) for i in range(9)))
    )
    ramp = bytes(range(256))
    lightness = (255 - 255 * bin(inks).count("1") // 4 for inks in range(16))
    lut += 4 * ramp + b"".join(bytes((light, 128, 128)) for light in lightness) + 3 * ramp
    return icc(b"CMYK", (b"A2B0", lut))


def greys(image: Image.Image) -> list[int]:
    found = pixels(image)
    assert all(r == g == b for r, g, b in found)
    return [r for r, _, _ in found]


def test_a_profile_is_converted_to_srgb():
    colours = Image.new("RGB", (2, 2), (200, 60, 40))
    for format in ("PNG", "JPEG", "TIFF", "WEBP"):
        options = {"quality": 100, "subsampling": 0} if format == "JPEG" else {"lossless": True}
        found = decode(encoded(colours, format, icc_profile=display_p3(), **options))
        assert np.abs(np.subtract(pixels(found)[0], (217, 42, 23))).max() <= 2
        assert found.info == {}
    clear = Image.new("RGBA", (1, 1), (200, 60, 40, 0))
    assert pixels(decode(encoded(clear, icc_profile=display_p3()))) == [(255, 255, 255)]
    clear.putalpha(255)
    (found,) = pixels(decode(encoded(clear, icc_profile=display_p3())))
    assert np.abs(np.subtract(found, (217, 42, 23))).max() <= 2
    palette = colours.convert("P", palette=Image.Palette.ADAPTIVE)
    found = pixels(decode(encoded(palette, icc_profile=display_p3())))[0]
    assert np.abs(np.subtract(found, (217, 42, 23))).max() <= 2


def test_inks_are_converted_by_their_own_profile():
    for ink in range(4):
        inks = Image.new("CMYK", (8, 8), tuple(255 * (i == ink) for i in range(4)))
        found = decode(encoded(inks, "TIFF", icc_profile=grey_inks()))
        assert max(pixels(found)[0]) - min(pixels(found)[0]) <= 1
        assert 180 <= pixels(found)[0][0] <= 190  # L* is 75


def test_srgb_itself_changes_nothing():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(decode(encoded(Image.fromarray(LEVELS), icc_profile=srgb)), LEVELS)


@pytest.mark.parametrize("profile", [b"nonsense", display_p3()[:200], grey_inks()])
def test_a_broken_profile_is_ignored(profile):
    assert np.array_equal(decode(encoded(Image.fromarray(LEVELS), icc_profile=profile)), LEVELS)


WIDE = [0, 128, 129, 255, 257, 0x8080, 65534, 65535]


NARROW = [0, 0, 1, 1, 1, 128, 255, 255]  # x / 257, rounded


@pytest.mark.parametrize("mode, dtype", [("I;16", "<u2"), ("I;16B", ">u2"), ("I", "<i4")])
def test_16_bits_are_scaled_to_8_and_not_clipped(mode, dtype):
    image = Image.frombytes(mode, (8, 1), np.array(WIDE, dtype).tobytes())
    assert greys(decode(encoded(image, "TIFF"))) == NARROW
    if mode == "I;16":
        assert greys(decode(encoded(image, "PNG"))) == NARROW


def test_a_dark_picture_of_16_bits_stays_dark():
    image = Image.frombytes("I;16", (2, 1), struct.pack("<2H", 0, 514))
    assert greys(decode(encoded(image))) == [0, 2]


def test_floats_go_from_0_to_1():
    image = Image.frombytes("F", (4, 1), np.array([0, 0.5, 1, 2], "<f4").tobytes())
    assert greys(decode(encoded(image, "TIFF"))) == [0, 128, 255, 255]


@pytest.mark.parametrize("suffix, bytes_more", [("png", 13), ("jpg", 606), ("webp", 614)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_written_file_says_that_it_is_srgb(tmp_path, suffix, bytes_more, mode):
    """In few bytes, always the same, and the pixels are as without."""
    image = Image.fromarray(LEVELS).convert(mode)
    content = encode(image, tmp_path / f"a.{suffix}", None)
    found = Image.open(io.BytesIO(content))
    options = {"quality": 95, "subsampling": 0} if suffix == "jpg" else {"lossless": True}
    plain = encoded(image, found.format, **options)
    assert np.array_equal(found, Image.open(io.BytesIO(plain)))
    if mode == "RGB":
        assert len(content) == len(plain) + bytes_more
    if suffix == "png":
        assert found.info["srgb"] == 0 and b"sRGB" in content[:64]
    elif mode == "RGB":
        profile = ImageCms.ImageCmsProfile(io.BytesIO(found.info["icc_profile"]))
        assert "sRGB" in ImageCms.getProfileDescription(profile)
        assert found.info["icc_profile"][24:36] == struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    assert np.array_equal(decode(content), found.convert("RGB"))


@pytest.mark.parametrize("mode", ["P", "I;16", "1", "L", "RGBA"])
def test_a_sheet_shows_what_its_images_do(tmp_path, mode):
    """A palette is each image's own, and its orientation isn't the sheet's."""
    image = Image.new("L", (4, 2), 255)
    image.putpixel((0, 0), 0)
    image = image.convert("I").point(lambda x: x * 257).convert("I;16") if mode == "I;16" else image
    exif = Image.Exif()
    exif[0x0112] = 3
    (tmp_path / "a.png").write_bytes(encoded(image.convert(mode), exif=exif))
    write_sheet([tmp_path / "a.png"], tmp_path / "b.png")
    found = np.asarray(Image.open(tmp_path / "b.png").convert("L"))
    assert np.argwhere(found == 0).tolist() == [[1, 3]] and np.count_nonzero(found == 255) == 7


def test_a_sheet_converts_its_images_to_its_own_profile(tmp_path):
    colours = Image.new("RGB", (2, 2), (200, 60, 40))
    (tmp_path / "a.png").write_bytes(encoded(colours, icc_profile=display_p3()))
    assert np.abs(np.subtract(pixels(open_whole(tmp_path / "a.png"))[0], (217, 42, 23))).max() <= 2


def linear_grey() -> bytes:
    """The profile of grey pictures whose numbers are amounts of light."""
    return icc(b"GRAY", (b"wtpt", xyz(0.9642, 1, 0.8249)), (b"kTRC", b"curv" + bytes(8)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16"])
def test_a_grey_picture_has_a_profile_of_its_own(mode):
    levels = {"1": [0, 255], "I;16": [0, 0x8080, 65535]}.get(mode, [0, 128, 255])
    image = Image.new(mode, (len(levels), 1))
    for i, level in enumerate(levels):
        image.putpixel((i, 0), (level, 255) if mode == "LA" else level)
    expected = {0: 0, 128: 188, 0x8080: 188, 255: 255, 65535: 255}  # by sRGB's own curve
    profile = linear_grey()
    assert greys(decode(encoded(image, icc_profile=profile))) == [expected[x] for x in levels]
    if mode == "L":  # and with a level that stands for nothing
        found = greys(decode(encoded(image, icc_profile=profile, transparency=0)))
        assert found == [255, 188, 255]
