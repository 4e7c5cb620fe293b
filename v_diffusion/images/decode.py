"""Image prompts: from a path or an address to a picture, or to one line that says why not."""

import hashlib
import io
import math
import warnings
from pathlib import Path
from typing import Any, BinaryIO

from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from ..shell.addresses import (
    PATIENCE,
    AddressError,
    Patience,
    check_scheme,
    fetch,
    is_address,
    without_secrets,
)
from ..shell.console import one_line, printable
from ..shell.paths import local
from ..shell.reading import read_file

ALL_16_BITS = 65535
TURNS = {  # what undoes each EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PictureError(OSError):
    """An image prompt can't be had or used. Its text is the whole message, one line.

    Args:
        again: whether it may be another time: the network failed, or the server.
    """

    def __init__(self, text: str, again: bool = False) -> None:
        super().__init__(text)
        self.again = again


class Refused(Exception):
    """Why a file is not taken."""


def failure(prompt: str | Path, why: str) -> PictureError:
    # Parts of the reason can be a file's own words.
    return PictureError(f"{printable(without_secrets(str(prompt)))}: {one_line(why)}")


def unopened(error: Exception) -> str:
    """Why a local file can't be opened, in words."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "it is a folder, not an image; name a file in it"
    if isinstance(error, PermissionError):
        return "there is no permission to read it"
    return f"can't be opened: {getattr(error, 'strerror', None) or error}"


def not_an_image(start: bytes) -> str:
    """Why a file is no image, in words, by its first bytes."""
    if not start:
        return "it is an empty file"
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html")):
        return "it is a web page, not an image; give the address of the image itself"
    return "it is not an image in a known format; convert it to PNG or JPEG"


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 where there is none that can be read."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken metadata raises nearly anything; the picture is still good
        return 1


def key_scale(image: ImageFile.ImageFile) -> float:
    """What a PNG's transparent colour is to be multiplied by, to be on the scale of its pixels.

    Pillow makes pixels of 2, 4 and, in colour, 16 bits into 8 bits, but not that colour. To be
    called before the pixels are loaded: the layout in the file isn't known afterwards.
    """
    if image.format != "PNG" or not image.tile:
        return 1
    return {"L;2": 85, "L;4": 17, "RGB;16B": 1 / 256}.get(str(image.tile[0][3]), 1)


def key_mask(image: Image.Image, key: int) -> Image.Image:
    """255 where an image of mode F is `key`, a whole number, and 0 elsewhere."""
    near = image.point(lambda v: v * 1 + (1 - key)).convert("L")  # 1 at the key; below it 0
    return near.point([255 if level == 1 else 0 for level in range(256)])


def grey_to_8_bits(image: Image.Image) -> Image.Image:
    """A grey image of more than 8 bits, with its levels scaled so that white stays white.

    Integers count as 16 bits. Floats go from 0 to 1, or to 255 or 65535 if any is above 1 or 255.
    What fits none of these is stretched from its darkest to its lightest level.

    Raises:
        Refused: the levels are not finite.
    """
    floats = image.mode == "F"
    image = image.convert("F")
    extrema: Any = image.getextrema()  # a pair, of one band
    low, high = extrema
    if not (math.isfinite(low) and math.isfinite(high)):
        raise Refused("its levels are not finite numbers; convert it to PNG")
    if low < 0 or high > ALL_16_BITS:
        scale = 255 / ((high - low) or 1)
    else:
        tops = (1, 255, ALL_16_BITS) if floats else (ALL_16_BITS,)
        low, scale = 0, 255 / next(top for top in tops if high <= top)
    # Conversion to L cuts to a whole number, so a half is added first.
    grey = image.point(lambda v: v * scale + (0.5 - low * scale)).convert("L")
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey.paste(255, mask=key_mask(image, key))
    return grey


def to_rgb(image: Image.Image) -> Image.Image:
    """A loaded image of any mode as RGB, laid over white where it is transparent.

    Raises:
        Refused: its levels are not finite.
        ValueError: Pillow knows no way from its mode to RGB.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return grey_to_8_bits(image).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white


def decode(file: BinaryIO) -> Image.Image:
    """The upright RGB picture in a file.

    Raises:
        Refused: there is none, or it is damaged or too large.
        UnidentifiedImageError: it is in no format that Pillow knows.
    """
    try:
        with Image.open(file) as image:
            scale = key_scale(image)
            image.load()
            turn = TURNS.get(orientation(image))
            key = image.info.get("transparency")
            if isinstance(key, int):
                image.info["transparency"] = int(key * scale)
            elif isinstance(key, tuple):
                image.info["transparency"] = tuple(int(k * scale) for k in key)
            picture = to_rgb(image)
    except (Refused, UnidentifiedImageError):
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise Refused(f"it has more than {Image.MAX_IMAGE_PIXELS} pixels; scale it down") from None
    except Exception as error:  # of damaged data Pillow's decoders raise nearly anything
        text = str(error) or type(error).__name__
        if "Ghostscript" in text:  # a program that Pillow draws PostScript with
            raise Refused(not_an_image(b"%!")) from None
        raise Refused(f"the image is truncated or damaged ({text}); get it anew") from None
    picture.info.clear()  # the orientation and the transparency are not to be applied twice
    return picture if turn is None else picture.transpose(turn)


def resize_and_center_crop(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A picture scaled until it fills a size, and what juts out cut off, the same on both sides."""
    from torchvision.transforms import functional as TF  # type: ignore[import-untyped]

    (width, height), (w, h) = size, picture.size
    factor = max(width / w, height / h)
    scaled = picture.resize((int(factor * w), int(factor * h)), Image.Resampling.LANCZOS)
    # Where rounding down leaves a side too short, this adds a black line.
    cut: Image.Image = TF.center_crop(scaled, [height, width])
    return cut


def open_picture(url_or_path: str | Path, patience: Patience = PATIENCE) -> tuple[Image.Image, str]:
    """The RGB picture at a path or an HTTP or HTTPS address, and the SHA-256 of its file.

    It is turned as its EXIF orientation says and laid over white where it is transparent. Of an
    animation it is the first frame.

    Args:
        url_or_path: the prompt.
        patience: how long an address may take, or a pipe.

    Raises:
        PictureError: it can't be opened, or is no image, or is truncated, damaged or too large.
    """
    try:
        check_scheme(str(url_or_path))
        if is_address(str(url_or_path)):
            content = fetch(url_or_path, patience=patience).read()
        else:
            content = read_file(local(url_or_path), seconds=patience.total)
    except AddressError as error:
        raise PictureError(str(error), error.again) from None
    except (OSError, ValueError) as error:
        raise failure(url_or_path, unopened(error)) from None
    # For this call Pillow's limit of pixels is an error, and its other doubts are not printed.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            return decode(io.BytesIO(content)), hashlib.sha256(content).hexdigest()
        except Refused as error:
            raise failure(url_or_path, str(error)) from None
        except UnidentifiedImageError:
            raise failure(url_or_path, not_an_image(content[:512])) from None
