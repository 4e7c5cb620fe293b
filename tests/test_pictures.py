import gzip
import hashlib
import http.server
import io
import os
import socket
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from file_server import Served, serve
from PIL import Image, ImageCms

from v_diffusion.images import contact_sheet, metadata
from v_diffusion.images import decode as pictures
from v_diffusion.images.decode import PictureError, open_picture, resize_and_center_crop
from v_diffusion.shell import addresses
from v_diffusion.shell.addresses import AddressError, fetch
from v_diffusion.shell.errors import UserError

LEVELS = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
WHITE = (255, 255, 255)


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


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


PICTURE = encoded(Image.fromarray(LEVELS))


@pytest.fixture
def opened(tmp_path) -> Callable[[bytes], Image.Image]:
    """Opens the picture in these bytes."""

    def open_bytes(content: bytes) -> Image.Image:
        (tmp_path / "picture").write_bytes(content)
        return open_picture(tmp_path / "picture")[0]

    return open_bytes


def pixels(image: Image.Image) -> list[tuple[int, ...]]:
    assert image.mode == "RGB"
    return [tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3).tolist()]


def greys(image: Image.Image) -> list[int]:
    found = pixels(image)
    assert all(r == g == b for r, g, b in found)
    return [r for r, _, _ in found]


def why(prompt: str | Path, patience: float = 3.0, again: bool = False) -> str:
    """The message, less the prompt that it begins with.

    Args:
        patience: seconds for a whole file.
        again: whether the error says that another try may succeed.
    """
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PictureError) as caught:
        patch.setattr(addresses, "TIMEOUTS", (1.0, 1.5))
        patch.setattr(addresses, "PATIENCE", patience)
        open_picture(prompt)
    text = str(caught.value)
    assert caught.value.again == again
    assert text.startswith(f"{prompt}: ") and len(text.splitlines()) == 1
    return text[len(f"{prompt}: ") :]


# What comes out


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP"])
def test_plain_pictures_are_as_pillow_converts_them(opened, mode, format):
    content = encoded(Image.fromarray(LEVELS).convert(mode), format)
    expected = Image.open(io.BytesIO(content)).convert("RGB")
    assert pixels(opened(content)) == pixels(expected)


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "LAB"])
def test_other_modes_of_8_bits_are_as_pillow_converts_them(opened, mode):
    image = Image.fromarray(LEVELS)
    if mode == "LAB":
        image = Image.merge("LAB", image.split())
    content = encoded(image.convert(mode), "TIFF")
    expected = Image.open(io.BytesIO(content)).convert("RGB")
    assert pixels(opened(content)) == pixels(expected)


def test_a_cmyk_jpeg_of_one_ink_has_its_colour(opened):
    content = encoded(Image.new("CMYK", (8, 8), (0, 255, 0, 0)), "JPEG")
    assert pixels(opened(content))[0] == (255, 0, 255)


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
def test_the_exif_orientation_is_applied_once(opened, turn, expected, format):
    image = Image.frombytes("L", (3, 2), b"abcdef")
    exif = Image.Exif()
    exif[0x0112] = turn
    picture = opened(encoded(image, format, exif=exif))
    rows = np.asarray(picture)[:, :, 0]
    assert " ".join(bytes(row).decode() for row in rows) == expected
    assert picture.getexif().get(0x0112, 1) == 1


def test_broken_exif_does_not_spoil_a_picture(opened):
    content = encoded(Image.fromarray(LEVELS), exif=b"Exif\0\0nonsense")
    assert np.array_equal(opened(content), LEVELS)


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
def test_an_alpha_channel_lies_over_white(opened, mode, content, expected, format):
    image = Image.frombytes(mode, (3, 1), content)
    assert pixels(opened(encoded(image, format))) == expected


def test_pa_lies_over_white():
    image = Image.merge("PA", (Image.new("P", (3, 1)), Image.frombytes("L", (3, 1), b"\0\x80\xff")))
    image.putpalette([255, 0, 0])
    assert pixels(pictures.to_rgb(image)) == HALF_RED


def test_a_palette_with_transparency_lies_over_white(opened):
    image = Image.frombytes("P", (3, 1), bytes((0, 1, 2)))
    image.putpalette([255, 0, 0] * 3)
    assert pixels(opened(encoded(image, transparency=b"\0\x80\xff"))) == HALF_RED
    one = opened(encoded(image, transparency=1))
    assert pixels(one) == [(255, 0, 0), WHITE, (255, 0, 0)]
    gif = Image.frombytes("P", (2, 1), bytes((0, 1)))
    gif.putpalette([255, 0, 0, 0, 0, 255])
    assert pixels(opened(encoded(gif, "GIF", transparency=1))) == [(255, 0, 0), WHITE]


def test_a_transparent_colour_lies_over_white(opened):
    grey = Image.frombytes("L", (2, 1), b"\5\6")
    assert pixels(opened(encoded(grey, transparency=6))) == [(5, 5, 5), WHITE]
    colours = Image.frombytes("RGB", (2, 1), bytes((1, 2, 3, 1, 2, 4)))
    assert pixels(opened(encoded(colours, transparency=(1, 2, 3)))) == [WHITE, (1, 2, 4)]


def test_a_profile_is_converted_to_srgb(opened):
    colours = Image.new("RGB", (2, 2), (200, 60, 40))
    for format in ("PNG", "JPEG", "TIFF", "WEBP"):
        options = {"quality": 100, "subsampling": 0} if format == "JPEG" else {"lossless": True}
        found = opened(encoded(colours, format, icc_profile=display_p3(), **options))
        assert np.abs(np.subtract(pixels(found)[0], (217, 42, 23))).max() <= 2
        assert found.info == {}
    clear = Image.new("RGBA", (1, 1), (200, 60, 40, 0))
    assert pixels(opened(encoded(clear, icc_profile=display_p3()))) == [WHITE]
    clear.putalpha(255)
    (found,) = pixels(opened(encoded(clear, icc_profile=display_p3())))
    assert np.abs(np.subtract(found, (217, 42, 23))).max() <= 2
    palette = colours.convert("P", palette=Image.Palette.ADAPTIVE)
    found = pixels(opened(encoded(palette, icc_profile=display_p3())))[0]
    assert np.abs(np.subtract(found, (217, 42, 23))).max() <= 2


def test_inks_are_converted_by_their_own_profile(opened):
    for ink in range(4):
        inks = Image.new("CMYK", (8, 8), tuple(255 * (i == ink) for i in range(4)))
        found = opened(encoded(inks, "TIFF", icc_profile=grey_inks()))
        assert max(pixels(found)[0]) - min(pixels(found)[0]) <= 1
        assert 180 <= pixels(found)[0][0] <= 190  # L* is 75


def test_srgb_itself_changes_nothing(opened):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(opened(encoded(Image.fromarray(LEVELS), icc_profile=srgb)), LEVELS)


@pytest.mark.parametrize("profile", [b"nonsense", display_p3()[:200], grey_inks()])
def test_a_broken_profile_is_ignored(opened, profile):
    assert np.array_equal(opened(encoded(Image.fromarray(LEVELS), icc_profile=profile)), LEVELS)


WIDE = [0, 128, 129, 255, 257, 0x8080, 65534, 65535]
NARROW = [0, 0, 1, 1, 1, 128, 255, 255]  # x / 257, rounded


@pytest.mark.parametrize("mode, dtype", [("I;16", "<u2"), ("I;16B", ">u2"), ("I", "<i4")])
def test_16_bits_are_scaled_to_8_and_not_clipped(opened, mode, dtype):
    image = Image.frombytes(mode, (8, 1), np.array(WIDE, dtype).tobytes())
    assert greys(opened(encoded(image, "TIFF"))) == NARROW
    if mode == "I;16":
        assert greys(opened(encoded(image, "PNG"))) == NARROW


def test_a_dark_picture_of_16_bits_stays_dark(opened):
    image = Image.frombytes("I;16", (2, 1), struct.pack("<2H", 0, 514))
    assert greys(opened(encoded(image))) == [0, 2]


def test_floats_go_from_0_to_1(opened):
    image = Image.frombytes("F", (4, 1), np.array([0, 0.5, 1, 2], "<f4").tobytes())
    assert greys(opened(encoded(image, "TIFF"))) == [0, 128, 255, 255]


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP"])
def test_an_animation_gives_its_first_frame(opened, format):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    content = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert set(pixels(opened(content))) == {(255, 0, 0)}


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


UNKNOWN = "it is not an image in a known format; give a PNG or a JPEG, not a web page"


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

WRONG = "check the address, or save it and name the file"
LATER = "check the address, or try again later"


@pytest.mark.parametrize("declared", [None, 0])
def test_an_address_gives_the_picture(declared):
    with serve(picture=Served(PICTURE, declared=declared)) as url:
        assert np.array_equal(open_picture(url + "picture")[0], LEVELS)
        address = url.replace("http", "HTTP") + "picture"
        assert fetch(address) == PICTURE


def test_the_hash_is_the_files(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(LEVELS).save(path)
    assert open_picture(path)[1] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_fetch_gives_a_web_page_but_open_picture_says_that_it_is_one():
    page = b"<!doctype html><title>A cat</title>"
    with serve(cat=Served(page, content_type="text/html")) as url:
        assert why(url + "cat") == UNKNOWN
        assert fetch(url + "cat") == page


@pytest.mark.parametrize(
    "status, expected",
    [
        (404, f"the server answers 404 (Not Found); {WRONG}"),
        (410, f"the server answers 410 (Gone); {WRONG}"),
        (403, f"the server answers 403 (Forbidden); {WRONG}"),
        (429, f"the server answers 429 (Too Many Requests); {LATER}"),
        (500, f"the server answers 500 (Internal Server Error); {LATER}"),
        (599, f"the server answers 599; {LATER}"),
    ],
)
def test_bad_answers(status, expected):
    with serve(a=Served(PICTURE, statuses=[status])) as url:
        assert why(url + "a", again="later" in expected) == expected


def test_a_server_that_says_nothing():
    with serve(a=Served(PICTURE, stall_after=50)) as url:
        assert why(url + "a", again=True) == f"no answer in time; {LATER}"


def test_a_body_that_dribbles():
    with serve(a=Served(PICTURE, piece=1, pause=0.02)) as url:
        assert why(url + "a", again=True) == f"it has not come within 3 s; {LATER}"


def test_a_connection_that_breaks():
    with serve(a=Served(PICTURE, cut_every=100)) as url:
        assert why(url + "a", again=True) == f"the connection broke before the end; {LATER}"


TOO_LONG = f"it is longer than 64 MiB; {WRONG}"


def test_too_long_a_body_that_does_not_say_so():
    content = bytes(2**26 + 1)
    with serve(a=Served(content, declared=0), b=Served(content[:-1], declared=0)) as url:
        assert why(url + "a", patience=120) == TOO_LONG
        assert why(url + "b", patience=120) == UNKNOWN


def test_fetch_takes_its_limit(monkeypatch):
    with serve(a=Served(b"abc"), b=Served(b"abc", declared=0)) as url:
        monkeypatch.setattr(addresses, "STREAM_LIMIT", 3)
        assert fetch(url + "a") == b"abc"
        monkeypatch.setattr(addresses, "STREAM_LIMIT", 2)
        for name in "ab":
            with pytest.raises(AddressError, match="it is longer than "):
                fetch(url + name)


class Redirects(http.server.BaseHTTPRequestHandler):
    """/3 redirects to /2 and so on to /0, which is the picture; / redirects to itself."""

    endless_bodies = False
    body = PICTURE
    encoding = "identity"

    def do_GET(self) -> None:
        left = self.path[1:]
        if left == "0":
            self.send_response(200)
            self.send_header("Content-Encoding", self.encoding)
            self.end_headers()
            self.wfile.write(self.body)
            return
        self.send_response(302)
        self.send_header("Location", f"/{int(left) - 1}" if left else "/")
        self.end_headers()
        try:
            while self.endless_bodies:
                self.wfile.write(bytes(1 << 16))
        except ConnectionError:
            pass

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def redirects(**attributes: object) -> Iterator[str]:
    handler = type("BoundRedirects", (Redirects,), attributes)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def test_the_body_of_a_redirect_is_not_read(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with redirects(endless_bodies=True) as url:
        assert np.array_equal(open_picture(url + "2")[0], LEVELS)


def test_the_limit_holds_for_what_is_compressed(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    body = gzip.compress(PICTURE + bytes(10**6))
    with redirects(body=body, encoding="gzip") as url:
        assert fetch(url + "0") == PICTURE + bytes(10**6)
        monkeypatch.setattr(addresses, "STREAM_LIMIT", 100_000)
        with pytest.raises(AddressError, match="it is longer than "):
            fetch(url + "0")
    with redirects(body=PICTURE, encoding="gzip") as url:
        said = f"the connection broke before the end; {LATER}"
        assert why(url + "0", again=True) == said


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/x.png", "S3://bucket/x.png"])
def test_other_addresses(address):
    said = f"only http, https and file addresses can be opened; {WRONG}"
    assert why(address) == said


@contextmanager
def listening(answer: Callable[[socket.socket], None] | None) -> Iterator[str]:
    """The address of a socket that answers its first connection, or is full already."""
    with socket.socket() as server, socket.socket() as first, socket.socket() as second:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        thread = None
        if answer is None:
            for client in (first, second):
                client.setblocking(False)
                client.connect_ex(address)
        else:
            thread = threading.Thread(target=lambda: answer(server.accept()[0]))
            thread.start()
        yield f"http://127.0.0.1:{address[1]}/a.png"
        if thread:
            thread.join()


def test_something_that_does_not_speak_http(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")

    def answer(connection: socket.socket) -> None:
        with connection:
            connection.recv(1 << 16)
            connection.sendall(b"220 mail.example \x1b[31mESMTP\r\n")

    with listening(answer) as url:
        assert why(url, again=True) == f"220 mail.example ?[31mESMTP; {LATER}"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses")
def test_no_connection_comes_about(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with listening(None) as url:
        expected = f"no connection in time; {LATER}"
        assert why(url, again=True) == expected


def test_nobody_listens(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a.png"
        expected = f"Connection refused; {LATER}"
        assert why(url, again=True) == expected


def test_an_unknown_host(monkeypatch):
    def look_up(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    expected = f"Name or service not known; {LATER}"
    assert why("http://nobody.invalid/a.png", again=True) == expected


@pytest.mark.parametrize(
    "address", ["http://", "http:///a.png", "http://[::1/a", "http://a:99999/", "https://.a/"]
)
def test_addresses_that_are_none(address):
    assert why(address).endswith(f"; {WRONG}")


# What callers rely on


def test_a_failed_address_is_an_oserror_and_a_missing_file_stays_one(tmp_path):
    with serve() as url, pytest.raises(OSError, match="404"):
        fetch(url + "none")
    with pytest.raises(FileNotFoundError):
        fetch(tmp_path / "none")


def test_neither_torch_nor_requests_is_imported_for_a_file(tmp_path):
    (tmp_path / "a.png").write_bytes(PICTURE)
    code = (
        "import sys; from v_diffusion.images.decode import open_picture; open_picture(sys.argv[1]);"
        "print({'torch', 'requests', 'numpy'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("set()\n", "")
