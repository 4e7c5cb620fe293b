"""Requests: the jobs that somebody wants drawn, how to draw them and what to write."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..images.names import all_identities
from ..job.job import Job
from ..job.values import LAST_SEED
from ..shell.errors import RunError, UserError
from ..shell.paths import local

if TYPE_CHECKING:
    from ..images.inputs import Inputs


@dataclass(frozen=True)
class Order:
    """An order for pictures of one job, with its seed and the n - 1 seeds after it.

    Args:
        output, film: the patterns of the paths; a film of "" goes beside its image.
        line: the line of a job file that it comes from, for messages.
        precision: that of a picture to draw again.
    """

    job: Job
    n: int
    output: str
    line: str | None = None
    hints: tuple[str, ...] = field(default=(), compare=False)
    film: str | None = None
    precision: str | None = None

    def __post_init__(self) -> None:
        if self.job.seed + self.n - 1 > LAST_SEED:
            raise UserError(f"--seed: the last image's would exceed {LAST_SEED}; use a smaller one")

    @cached_property
    def inputs(self) -> "Inputs":
        """The job's pictures, opened once. Raises UserError or RunError."""
        from ..images.inputs import open_inputs  # imports Pillow

        return open_inputs(self.job)

    @cached_property
    def input_files(self) -> frozenset[object]:
        """The identities of the job's pictures, as far as they are files."""
        names = [prompt.text for prompt in self.job.images]
        names += [name for name in (self.job.init, self.job.mask) if name is not None]
        return all_identities(local(name) for name in names if "\0" not in name)


@dataclass(frozen=True)
class BadLine:
    """A line of a job file that isn't an order, and what is wrong with it."""

    line: str
    error: UserError | RunError


@dataclass(frozen=True)
class Execution:
    """How and where to draw, which changes no picture but by rounding: options of the table."""

    device: str | None = None
    batch_size: int = 1
    checkpointing: bool = False
    compile: bool = False
    cfg_batch: int | None = None
    precision: str | None = None
    threads: int | None = None


@dataclass(frozen=True)
class OutputOptions:
    """What to write: options of the table, `clobber` and `metadata` being the opposite of them."""

    resume: bool = False
    clobber: bool = True
    metadata: bool = True
    preview: int | None = None
    grid: Path | None = None


@dataclass(frozen=True)
class Request:
    """All that somebody asks for.

    Args:
        orders: None among them means that no further line of a job file has come yet.
        lines: they are such lines: one that fails doesn't stop the others.
        sources: files that no image may overwrite.
    """

    orders: Iterable[Order | BadLine | None]
    execution: Execution
    output: OutputOptions
    lines: bool = False
    sources: tuple[Path, ...] = ()
