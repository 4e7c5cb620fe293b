"""What a model hears of a prompt, and what to say of one that it can't know."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..job.job import Job
from ..job.prompt import Subject
from . import vocabulary
from .vocabulary import Vocabulary, says_something, words_of

if TYPE_CHECKING:
    from CLIP.model import CLIP

NEAREST = 3  # names to suggest
MOST = 5  # unknown words to name
LONGEST = 40  # letters of one


def vocabulary_of(job: Job) -> Vocabulary | None:
    """What a job's model has learned by words; None where that isn't known, as of a file of the
    user's own.
    """
    own = job.checkpoint is not None or job.clip_checkpoint is not None
    return None if own else vocabulary.of(job.model)


def heard(job: Job, subject: Subject) -> Subject:
    """The subject as the model is to hear it: an emoji goes by its name."""
    known = vocabulary_of(job)
    if known is None:
        return subject
    return replace(subject, texts=tuple((known.said(text), w) for text, w in subject.texts))


def shortened(word: str) -> str:
    """A word to show; of one that is none the beginning."""
    return word if len(word) <= LONGEST else f"{word[:LONGEST]}..."


def warning(job: Job, text: str, clip_model: CLIP) -> str | None:
    """What to say of a text with words that the model has not learned, None if it knows them all.

    Args:
        clip_model: the model's CLIP, which tells what is near.
    """
    known = vocabulary_of(job)
    if known is None or not (unknown := known.unknown(text)):
        return None
    near = known.spelled_like(unknown)[:NEAREST]
    # A word that CLIP has never read leads anywhere; what it knows of the text leads nearer.
    rest = [word for word in words_of(known.said(text)) if word not in unknown]
    if not near and any(map(says_something, rest)):
        from CLIP import prompts

        near = prompts.nearest(clip_model, " ".join(rest), list(known.names), NEAREST)
    words = ", ".join(f'"{shortened(word)}"' for word in unknown[:MOST])
    more = f" and {len(unknown) - MOST} more words" if len(unknown) > MOST else ""
    there = f"the nearest things that it knows: {', '.join(near)}"
    return (
        f"warning: {job.model} has not learned {words}{more}; "
        f"{there if near else '--list-prompts shows what it knows'}"
    )
