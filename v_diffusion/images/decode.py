"""Pictures from bytes: decoded, upright, in sRGB and over white, or one line that says why not."""

import hashlib
import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

from ..shell.addresses import AddressError, fetch, without_secrets
from ..shell.console import one_line, printable

# The formats that are read: first those that Pillow has loaded anyway, last TGA, which has no
# signature. Not EPS or WMF, which Pillow has other programs draw.
READ_FORMATS = "PNG JPEG GIF BMP PPM WEBP TIFF AVIF JPEG2000 ICO TGA".split()
SLIVER = 32  # how many times the length that is needed may be scaled


class PictureError(AddressError):
    """A picture can't be had or used."""


def open_image(content: bytes) -> ImageFile.ImageFile:
    """Open an image as Pillow does, in one of `READ_FORMATS`."""
    return Image.open(io.BytesIO(content), formats=READ_FORMATS)


@contextmanager
def said_in_words() -> Iterator[None]:
    """Turn whatever Pillow raises while it reads an image into a ValueError that says why."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            yield
        except UnidentifiedImageError:
            why = "it is not an image in a known format; give a PNG or a JPEG, not a web page"
            raise ValueError(why) from None
        except (Image.DecompressionBombWarning, Image.DecompressionBombError, MemoryError):
            raise ValueError("it has too many pixels; scale it down") from None
        except Exception as error:  # of damaged data Pillow's decoders raise nearly anything
            text = str(error) or type(error).__name__
            why = f"the image is truncated or damaged ({text}); get it again, or convert it to PNG"
            raise ValueError(why) from None


@cache
def srgb_profile() -> bytes:
    """Return an ICC profile of sRGB, always the same bytes."""
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return made[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + made[36:]  # the date


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
        converted: Any = ImageCms.profileToProfile(colours, own, srgb, outputMode="RGB")
    except Exception:  # a profile that is broken, or another mode's: the picture is still good
        return plain
    # sRGB itself comes back with rounding errors alone.
    extrema: Any = ImageChops.difference(plain, converted).getextrema()
    return converted if max(high for _, high in extrema) > 1 else plain


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a loaded image of any mode as RGB, laid over white where it is transparent."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        scale = 255 if image.mode == "F" else 255 / 65535  # floats go from 0 to 1
        # Conversion to L cuts to a whole number, so a half is added first.
        return to_srgb(image.convert("F").point(lambda v: v * scale + 0.5).convert("L"))
    if not image.has_transparency_data:
        return to_srgb(image)
    clear = image.convert("RGBA")
    # A grey picture's profile is for grey.
    colours = image.convert("L") if image.mode in ("1", "L", "LA") else clear.convert("RGB")
    white = Image.new("RGB", image.size, "white")
    white.paste(to_srgb(colours), mask=clear.getchannel("A"))
    return white


def upright(image: Image.Image) -> Image.Image:
    """Turn a loaded image in place as its metadata says, and return it."""
    with suppress(Exception):  # broken metadata raises nearly anything
        ImageOps.exif_transpose(image, in_place=True)
    return image


def decode(content: bytes) -> Image.Image:
    """Return the upright RGB picture in a file's bytes, or raise ValueError, which says why not."""
    with said_in_words(), open_image(content) as image:
        image.load()
        picture = to_rgb(upright(image))
    picture.info.clear()  # the orientation and the profile are not to be applied twice
    return picture


def resize_and_center_crop(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return a picture scaled until it fills a size, width and height, less what juts out evenly.

    Where rounding down leaves a side a pixel short, it ends black.
    """
    (width, height), (w, h) = size, picture.size
    factor = max(width / w, height / h)
    # The ends of a sliver, which would take gigabytes to scale, are left out.
    x, y = (max(0, int(have - SLIVER * need / factor)) // 2 for have, need in zip((w, h), size))
    box = (x, y, w - x, h - y)
    scaled = int(factor * (w - 2 * x)), int(factor * (h - 2 * y))
    left, top = (round((have - need) / 2) for have, need in zip(scaled, size))
    whole = picture.resize(scaled, Image.Resampling.LANCZOS, box)
    return whole.crop((left, top, left + width, top + height))


def open_picture(url_or_path: str | Path) -> tuple[Image.Image, str]:
    """Return the RGB picture at a path or address and its file's SHA-256. Raises PictureError."""
    try:
        content = fetch(url_or_path)
        return decode(content), hashlib.sha256(content).hexdigest()
    except AddressError as error:
        raise PictureError(str(error), error.again) from None
    except FileNotFoundError:
        why = "there is no such file"
    except OSError as error:
        why = f"can't be opened: {error.strerror or error}"
    except ValueError as error:
        why = str(error)
    # Parts of the reason can be a file's own words.
    raise PictureError(f"{printable(without_secrets(str(url_or_path)))}: {one_line(why)}")
