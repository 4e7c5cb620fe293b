"""A run: which pictures are left, batches and ranks, drawing, writing, resuming."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from functools import cache, cached_property
from importlib.metadata import version
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

from ..images import output
from ..images.names import bad_pattern
from ..images.output import WriteFailed
from ..images.record import Sources, record
from ..shell.console import listed, log, print_line, printable
from ..shell.errors import NoDevice, RunError, UserError
from ..shell.paths import expand_user
from ..shell.program import clean_up_on_interrupt
from ..weights import store
from .destinations import Destinations
from .film import Film
from .preview import Preview
from .progress import Progress
from .ranks import Rank, take_threads, this_rank, wait_for_all
from .request import Order, Request
from .tasks import Task, in_batches, tasks_of

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from ..studio.studio import Studio

PART = 1024  # pictures that are checked before the first of them is drawn


class Run:
    """One run of a program, from a request to files, or a rank's share of it."""

    def __init__(self, request: Request, rank: Rank) -> None:
        self.request, self.rank = request, rank
        self.execution, self.output = request.execution, request.output
        # The SHA-256 of a file, computed once, in the background.
        threads = ThreadPoolExecutor(2)
        self.sha256 = cache(lambda path: threads.submit(store.sha256, path))
        # The lines that can't be drawn, and if it was a failure: not the error itself, which would
        # keep all that was in memory when it was raised.
        self.refused: dict[str, bool] = {}
        self.reports_refused = rank.reports
        self.paths: list[Path] = []  # of all ranks' images, for the contact sheet
        self.destinations = Destinations(request.sources, self.output.grid)
        self.told: set[str] = set()

    def refuse(self, line: str | None, error: UserError | RunError, own: bool = False) -> None:
        """Report a line that can't be drawn, for all ranks unless it is this one's own."""
        if line is None or isinstance(error, (NoDevice, WriteFailed)):
            raise error
        if line not in self.refused:
            self.refused[line] = isinstance(error, RunError)
            self.reports_refused |= own
            if own or self.rank.reports:
                log.error(f"{line}: {error}")

    def tell_once(self, text: str, tell: Callable[[str], None]) -> None:
        """Say for all ranks what hasn't been said yet."""
        if self.rank.reports and text not in self.told:
            tell(text)
        self.told.add(text)

    @cached_property
    def studio(self) -> Studio:
        """The studio, made when needed: PyTorch's import takes longer than to find a mistake."""
        import torch

        from ..shell import program
        from ..studio.devices import pick_device
        from ..studio.studio import Studio

        how = self.execution
        device = pick_device(how.device, self.rank.local)
        if how.threads is not None:
            torch.set_num_threads(how.threads)
        if device.type == "cpu":
            program.keep_freed_memory()
        return Studio(
            device,
            checkpointing=how.checkpointing,
            compile=how.compile,
            cfg_batch=how.cfg_batch,
            precision=how.precision,
        )

    def tasks(self) -> Iterator[Task | None]:
        """Yield all pictures of all ranks whose files can have their names."""
        for task in tasks_of(self.request.orders, self.refuse):
            if task is not None:
                for hint in task.order.hints:
                    self.tell_once(hint, log.warning)
                if why := self.destinations.conflict(task):
                    self.refuse(task.order.line, bad_pattern(task.order.output, why))
                    continue
                if self.output.grid is not None:
                    self.paths.append(task.path)
            yield task

    def record(self, task: Task) -> dict[str, Any]:
        """Return the record of a picture; wait for the hashes of its weights."""
        job = task.job
        model, clip, guides = self.studio.files(job)
        given = set(map(expand_user, job.clip_checkpoint))
        names = [job.own_clip, *(name for name, _ in job.guides)]
        clips = tuple(
            # `obtain` has checked the others.
            self.sha256(path).result() if path in given else store.cards()[name].sha256
            for name, path in zip(names, (clip, *guides) if clip else ())
        )
        own = clips[0] if clips else None
        sources = Sources(
            self.sha256(model).result(),
            own,
            version("torch"),
            guides_sha256=clips[1:],
            precision=self.studio.unusual_precision,
        )
        self.studio.files(job)  # which have not changed until they were hashed
        return record(job, task.order.inputs, sources, task.index)

    def is_kept(self, path: Path) -> bool:
        """Tell if a file exists and must not be overwritten."""
        return not self.output.clobber and output.is_there(path)

    def check(self, tasks: Sequence[Task]) -> set[int]:
        """Return the numbers of an order's pictures that need not be drawn, before any is."""
        self.destinations.prepare(tasks)
        order = tasks[0].order
        _ = order.inputs  # opens them
        left = [task for task in tasks if not self.is_kept(task.path)]
        if left:
            self.studio.check(order.job)
            self.studio.files(order.job)
        if self.output.resume:
            left = [task for task in left if not output.is_done(task.path, self.record(task))]
        return {task.index for task in tasks} - {task.index for task in left}

    def draw(self, batch: Sequence[Task], done: set[int], progress: Progress) -> None:
        """Draw a batch, whole or not at all: in another its images would be rounded differently."""
        begun = time.monotonic()
        pictures: Sequence[Image | None] = [None] * len(batch)
        film = Film([k for k, task in enumerate(batch) if task.film is not None])
        if not done.issuperset(task.index for task in batch):
            pictures = self.pictures(batch, progress, film)
        seconds = (time.monotonic() - begun) / len(batch)
        broken = []
        for k, (task, picture) in enumerate(zip(batch, pictures)):
            # It may have appeared in the meantime.
            if task.index in done or self.is_kept(task.path):
                output.remove_preview(task.path)  # of a run that was killed
                progress.is_there(task.path)
            elif picture is None:
                broken.append(task)
            else:
                # First, so that where a picture is there is its film.
                if task.film is not None and not self.is_kept(task.film):
                    content = output.film_of(film.frames(k), picture, task.film)
                    output.write_content(content, task.film, swept=True)
                made = self.record(task) if self.output.metadata else None
                output.write(picture, task.path, made, swept=True)
                progress.is_there(task.path, seconds)
        for task in broken:  # when those beside it are written
            error = RunError(f"{printable(task.path)}: {output.NO_PICTURE}")
            self.refuse(task.order.line, error, own=True)

    def pictures(
        self, batch: Sequence[Task], progress: Progress, film: Film
    ) -> Sequence[Image | None]:
        """Return the pictures of a batch, None for one that came out broken."""
        jobs = [task.job for task in batch]
        self.studio.load(jobs[0])
        clean_up_on_interrupt()
        self.destinations.lock(batch, keep_first=not self.request.lines)
        self.tell_once(f"Using device: {self.studio.device}", log.info)
        if self.output.metadata:  # hashed while the first is drawn
            self.sha256(self.studio.files(jobs[0]).model)
        every = self.output.preview
        paths = [task.path for task in batch]
        with nullcontext() if every is None else Preview(paths, every) as preview:

            def watch(info: dict[str, Any]) -> None:
                progress.draws(len(batch), info["i"] + 1, info["of"], info["done"])
                film(info)
                if preview is not None:
                    preview(info)

            inputs = [task.order.inputs for task in batch]
            return self.studio.draw_batch(jobs, inputs, watch, disable=True)

    def draw_part(self, part: Sequence[Sequence[Task]], progress: Progress) -> None:
        """Draw batches, checked first. A bad line doesn't stop the others; a full disk does."""
        done: set[int] = set()
        tasks = [task for batch in part for task in batch if task.order.line not in self.refused]
        tasks.sort(key=lambda task: task.index)
        for _, own in groupby(tasks, key=lambda task: id(task.order)):
            some = list(own)
            try:
                done |= self.check(some)
            except (UserError, RunError) as error:
                self.refuse(some[0].order.line, error, own=True)
        for batch in part:
            kept = [task for task in batch if task.order.line not in self.refused]
            try:
                if kept:
                    self.draw(kept, done, progress)
            except (UserError, RunError) as error:
                for task in kept:
                    self.refuse(task.order.line, error, own=True)
            finally:
                self.destinations.release()

    def go(self) -> None:
        """Draw everything."""
        grid = self.output.grid
        if grid is not None:
            output.prepare([grid])
        orders, lines, size = self.request.orders, self.request.lines, self.execution.batch_size
        # This rank's share.
        batches = islice(in_batches(self.tasks(), size), self.rank.number, None, self.rank.of)
        n = None
        if not lines and self.rank.of == 1:
            n = sum(order.n for order in orders if isinstance(order, Order))
        with closing(Progress(n, self.rank.reports)) as progress:
            while part := list(islice(batches, 1 if lines else max(1, PART // size))):
                self.draw_part(part, progress)
        incomplete = wait_for_all(self.rank, bool(self.refused))
        if self.refused and self.reports_refused:
            text = f"not drawn: {listed(list(self.refused))}"
            # A failure may not happen again; a mistake will.
            raise RunError(text) if any(self.refused.values()) else UserError(text)
        if grid is not None and self.rank.reports and not incomplete:
            from ..images.contact_sheet import write_sheet

            if not self.is_kept(grid):
                write_sheet(self.paths, grid)
            print_line(grid)


def run(request: Request) -> None:
    """Draw what is asked for, or this process's share of it. Raises RunError or UserError."""
    take_threads()
    one = Run(request, this_rank())
    with closing(one.destinations):
        one.go()
