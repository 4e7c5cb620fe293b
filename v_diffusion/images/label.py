"""Prompts as a part of a file's name."""

import re
import unicodedata
from pathlib import PurePath
from urllib.parse import unquote, urlsplit

from ..job.job import Job

LONGEST = 100  # bytes, of the 255 that file systems take for a whole name
NONE = "no_prompt"


def slug(text: str) -> str:
    """A text as letters, digits and single underscores, cut to `LONGEST`. What has neither letters
    nor digits gives the numbers of its characters.
    """
    plain = unicodedata.normalize("NFC", text)
    safe = re.sub(r"[\W_]+", "_", plain).strip("_")
    safe = safe or "_".join(f"{ord(c):x}" for c in plain)
    return safe.encode()[:LONGEST].decode(errors="ignore").rstrip("_")


def file_of(image: str) -> str:
    """The name of an image prompt's file. Of an address, what lets somebody in is no part of it."""
    if "://" not in image:
        return PurePath(image).stem
    try:
        parts = urlsplit(image)
    except ValueError:  # malformed: who opens it says so
        return NONE
    return PurePath(unquote(parts.path)).stem or str(parts.hostname)


def label(job: Job) -> str:
    """What a job's texts say, or if there are none the names of its image prompts."""
    texts = [prompt.text for prompt in job.prompts]
    texts = texts or [file_of(image.text) for image in job.images]
    return slug("_".join(texts)) if texts else NONE


def label_for(pattern: str, job: Job) -> str:
    """A job's label where a pattern of names has a place for it."""
    return label(job) if "{prompt}" in pattern else ""
