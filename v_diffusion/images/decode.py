"""Pictures from bytes: decoded, upright, in sRGB and over white, or one line that says why not."""

import hashlib
import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

from ..shell.addresses import PATIENCE, AddressError, Patience, fetch, without_secrets
from ..shell.console import one_line, printable

# The formats that are read: first those that Pillow has loaded anyway, last TGA, which has no
# signature. Not EPS or WMF, which Pillow has other programs draw.
READ_FORMATS = "PNG JPEG GIF BMP PPM WEBP TIFF AVIF JPEG2000 ICO TGA".split()
ALL_16_BITS = 65535
LARGEST_SCALED = 4  # times the side that is needed


class PictureError(OSError):
    """A picture can't be had or used. Its text is the whole message, one line.

    Args:
        again: another try may succeed, since the network failed, or the server.
    """

    def __init__(self, text: str, again: bool = False) -> None:
        super().__init__(text)
        self.again = again


def failure(name: str | Path, why: str) -> PictureError:
    # Parts of the reason can be a file's own words.
    return PictureError(f"{printable(without_secrets(str(name)))}: {one_line(why)}")


def unopened(error: Exception) -> str:
    """Return why a local file can't be opened, in words."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "it is a folder, not an image; name a file in it"
    if isinstance(error, PermissionError):
        return "there is no permission to read it"
    return f"can't be opened: {getattr(error, 'strerror', None) or error}"


def not_an_image(content: bytes) -> str:
    """Return why a file is no image, in words."""
    if not content:
        return "it is an empty file"
    start = content[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "it is a web page, not an image; give the address of the image itself"
    return "it is not an image in a known format; convert it to PNG or JPEG"


def open_image(content: bytes) -> ImageFile.ImageFile:
    """Open an image as Pillow does, in one of `READ_FORMATS`."""
    return Image.open(io.BytesIO(content), formats=READ_FORMATS)


@contextmanager
def said_in_words(content: bytes) -> Iterator[None]:
    """Turn whatever Pillow raises while it reads an image into a ValueError that says why."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            yield
        except UnidentifiedImageError:
            raise ValueError(not_an_image(content)) from None
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            most = Image.MAX_IMAGE_PIXELS
            raise ValueError(f"it has more than {most} pixels; scale it down") from None
        except MemoryError:
            raise ValueError("it does not fit into the memory; scale it down") from None
        except Exception as error:  # of damaged data Pillow's decoders raise nearly anything
            text = str(error) or type(error).__name__
            why = f"the image is truncated or damaged ({text}); get it again, or convert it to PNG"
            raise ValueError(why) from None


def grey_to_8_bits(image: Image.Image) -> Image.Image:
    """Return a grey image of more than 8 bits with its levels scaled so that white stays white.

    Integers count as 16 bits. Floats go from 0 to 1, or to 255 or 65535 if any is above 1 or 255.
    What fits none of these is stretched from its darkest to its lightest level.

    Raises:
        ValueError: the levels are not finite.
    """
    floats = image.mode == "F"
    image = image.convert("F")
    extrema: Any = image.getextrema()  # a pair, of one band
    low, high = extrema
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("its levels are not finite numbers")
    if low < 0 or high > ALL_16_BITS:
        scale = 255 / ((high - low) or 1)
    else:
        tops = (1, 255, ALL_16_BITS) if floats else (ALL_16_BITS,)
        low, scale = 0, 255 / next(top for top in tops if high <= top)
    # Conversion to L cuts to a whole number, so a half is added first.
    return image.point(lambda v: v * scale + (0.5 - low * scale)).convert("L")


def to_srgb(image: Image.Image) -> Image.Image:
    """Return an image of any mode without transparency as RGB, by its ICC profile if it has one."""
    plain = image.convert("RGB")
    profile = image.info.get("icc_profile")
    if not profile:
        return plain
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        srgb = ImageCms.createProfile("sRGB")
        colours = plain if image.mode == "P" else image
        converted = ImageCms.profileToProfile(colours, own, srgb, outputMode="RGB")
    except Exception:  # a profile that is broken, or another mode's: the picture is still good
        return plain
    assert converted is not None
    # sRGB itself comes back with rounding errors alone.
    extrema: Any = ImageChops.difference(plain, converted).getextrema()
    return converted if max(high for _, high in extrema) > 1 else plain


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a loaded image of any mode as RGB, laid over white where it is transparent.

    Raises:
        ValueError: its levels are not finite, or Pillow knows no way from its mode to RGB.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return grey_to_8_bits(image).convert("RGB")
    if not image.has_transparency_data:
        return to_srgb(image)
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(to_srgb(image.convert("RGB")), mask=image.getchannel("A"))
    return white


def decode(content: bytes) -> Image.Image:
    """Return the upright RGB picture in a file's bytes. Of an animation it is the first frame.

    Raises:
        ValueError: it is no image in one of `READ_FORMATS`, or is truncated, damaged or too large.
    """
    with said_in_words(content), open_image(content) as image:
        image.load()
        try:
            ImageOps.exif_transpose(image, in_place=True)
        except Exception:  # broken metadata raises nearly anything; the picture is still good
            pass
        picture = to_rgb(image)
    picture.info.clear()  # the orientation and the profile are not to be applied twice
    return picture


def resize_and_center_crop(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return a picture scaled until it fills a size, less what juts out evenly on both sides.

    Args:
        size: width and height. Where rounding down leaves a side a pixel short, it ends black.
    """
    (width, height), (w, h) = size, picture.size
    factor = max(width / w, height / h)
    scaled = int(factor * w), int(factor * h)
    left, top = (round((have - need) / 2) for have, need in zip(scaled, size))
    if max(scaled[0] / width, scaled[1] / height) <= LARGEST_SCALED:
        whole = picture.resize(scaled, Image.Resampling.LANCZOS)
        return whole.crop((left, top, left + width, top + height))
    # Of a sliver, which would be enormous, only the part that is left is scaled.
    cut = min(width, scaled[0]), min(height, scaled[1])
    x, y = w / scaled[0], h / scaled[1]
    box = (left * x, top * y, min(w, (left + cut[0]) * x), min(h, (top + cut[1]) * y))
    part = picture.resize(cut, Image.Resampling.LANCZOS, box=box)
    return part.crop((0, 0, width, height))


def open_picture(url_or_path: str | Path, patience: Patience = PATIENCE) -> tuple[Image.Image, str]:
    """Return the RGB picture at a path or an HTTP or HTTPS address, and the SHA-256 of its file.

    Args:
        url_or_path: the prompt.
        patience: how long an address may take.

    Raises:
        PictureError: it can't be opened, or is no image, or is truncated, damaged or too large.
    """
    try:
        content = fetch(url_or_path, patience)
    except AddressError as error:
        raise PictureError(str(error), error.again) from None
    except (OSError, ValueError) as error:
        raise failure(url_or_path, unopened(error)) from None
    try:
        return decode(content), hashlib.sha256(content).hexdigest()
    except ValueError as error:
        raise failure(url_or_path, str(error)) from None
