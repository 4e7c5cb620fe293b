"""What a person asks for: jobs and where their pictures go, and how and where to draw them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..images.names import all_identities, check_sides, label
from ..job.job import Job
from ..job.limits import LAST_SEED
from ..job.prompt import Subject, open_subject, parse_prompt
from ..shell.paths import local
from ..shell.program import RunError, UserError


@dataclass(frozen=True)
class Order:
    """Pictures of one job, with its seed and the seeds after it.

    Args:
        job: of the first picture.
        n: how many.
        output: the pattern of their paths.
        line: of a job file, the line that it stands in, for messages.
        doubts: warnings of what is hardly meant.
    """

    job: Job
    n: int
    output: str
    line: str | None = None
    doubts: tuple[str, ...] = field(default=(), compare=False)

    @cached_property
    def subject(self) -> Subject:
        """The job's prompts, opened once.

        Raises:
            UserError, RunError: one can't be opened, or fetched.
        """
        return open_subject(
            self.job.prompts, self.job.images, self.job.init, self.job.prompt_weight
        )

    @cached_property
    def label(self) -> str:
        """Return what stands for {prompt} in the names of the files."""
        texts = [parse_prompt(prompt)[0] for prompt in self.job.prompts]
        return label(texts, [parse_prompt(image)[0] for image in self.job.images])

    @cached_property
    def batch_key(self) -> tuple[object, ...]:
        """The job's, which is asked for with each picture."""
        return self.job.batch_key

    @cached_property
    def inputs(self) -> frozenset[object]:
        """What the pictures that the job is given are known by, as far as they are files."""
        names = [parse_prompt(image)[0] for image in self.job.images]
        names += [] if self.job.init is None else [self.job.init]
        return all_identities(local(name) for name in names if "\0" not in name)

    def __post_init__(self) -> None:
        """
        Raises:
            UserError: there are no such seeds, or the files have no pictures so large.
        """
        check_sides(self.output, self.job.size)
        if self.job.seed + self.n - 1 > LAST_SEED:
            raise UserError(
                f"the last image's seed would be beyond {LAST_SEED}: take a smaller --seed"
            )


@dataclass(frozen=True)
class BadLine:
    """A line of a job file that is no order.

    Args:
        line: which, for messages.
        error: what is wrong with it.
    """

    line: str
    error: UserError | RunError


@dataclass(frozen=True)
class Execution:
    """How and where to draw, which changes no picture.

    Args:
        device: its name, or None for the best there is.
        batch_size: images at a time.
        checkpointing: guide in less memory and more time.
        compile: compile the models first, where that gains anything.
        threads: how many to compute in on a CPU; None: as many as PyTorch would.
        cfg_batch: pictures and conditions at a time; None: all.
    """

    device: str | None = None
    batch_size: int = 1
    checkpointing: bool = False
    compile: bool = False
    cfg_batch: int | None = None
    threads: int | None = None


@dataclass(frozen=True)
class OutputOptions:
    """What to keep of a run.

    Args:
        resume: leave out the images that are there already and of the same settings.
        clobber: write over files that are there; otherwise their images are left out.
        metadata: write into the images how they were made.
        preview: show images that are being drawn every so many steps; 0: about once a second;
            None: not at all.
        grid: a contact sheet of the run.
    """

    resume: bool = False
    clobber: bool = True
    metadata: bool = True
    preview: int | None = None
    grid: Path | None = None


@dataclass(frozen=True)
class Request:
    """All that is asked for.

    Args:
        orders: those of a command, or those of a job file as its lines come. None between them
            says that at this moment there are no more, but may be later.
        how: how to draw.
        keep: what to keep.
        lines: whether the orders are lines: then one that fails doesn't stop the others.
        sources: files that no image may be written over.
    """

    orders: Iterable[Order | BadLine | None]
    how: Execution
    keep: OutputOptions
    lines: bool = False
    sources: tuple[Path, ...] = ()
