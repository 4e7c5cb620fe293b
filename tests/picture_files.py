"""Pictures as files, and what is said of one, for the tests of reading them."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from v_diffusion.images.decode import PictureError, open_picture
from v_diffusion.shell import addresses

LEVELS = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


PICTURE = encoded(Image.fromarray(LEVELS))


def pixels(image: Image.Image) -> list[tuple[int, ...]]:
    assert image.mode == "RGB"
    return [tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3).tolist()]


def why(
    prompt: str | Path,
    again: bool = False,
    timeouts: tuple[float, float] = addresses.TIMEOUTS,
    patience: float = addresses.PATIENCE,
) -> str:
    """The message, less the prompt that it begins with.

    Args:
        again: whether the error says that another try may succeed.
        timeouts: seconds for a connection and for the next bytes.
        patience: seconds for a whole file.
    """
    with pytest.MonkeyPatch.context() as patch, pytest.raises(PictureError) as caught:
        patch.setattr(addresses, "TIMEOUTS", timeouts)
        patch.setattr(addresses, "PATIENCE", patience)
        open_picture(prompt)
    text = str(caught.value)
    assert caught.value.again == again
    assert text.startswith(f"{prompt}: ") and len(text.splitlines()) == 1
    return text[len(f"{prompt}: ") :]


UNKNOWN = "it is not an image in a known format; give a PNG or a JPEG, not a web page"
