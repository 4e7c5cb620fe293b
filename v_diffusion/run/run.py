"""A run: which pictures are left, batches and ranks, drawing, writing, resuming."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from importlib.metadata import version
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ..images import output
from ..images.names import bad_pattern
from ..images.output import WriteFailed
from ..images.record import Sources, record
from ..shell.console import listed, log, print_line, printable
from ..shell.errors import NoDevice, RunError, UserError
from ..shell.program import clean_up_on_interrupt
from ..studio.files import Hashes, check_files
from .destinations import Destinations
from .progress import Progress
from .ranks import Rank, take_threads, this_rank, wait_for_all
from .request import Order, Request
from .tasks import Task, in_batches, in_parts, tasks_of

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

    from ..studio.studio import Studio

PART = 1024  # pictures that are checked before the first of them is drawn


class Run:
    """One run of a program, from a request to files.

    Args:
        rank: the share of this process.
    """

    def __init__(self, request: Request, rank: Rank) -> None:
        self.request, self.rank = request, rank
        self.execution, self.output = request.execution, request.output
        self.hashes = Hashes()
        # The lines that can't be drawn, and if it was a failure: not the error itself, which would
        # keep all that was in memory when it was raised.
        self.refused: dict[str, bool] = {}
        self.reports_refused = rank.reports
        self.paths: list[Path] = []  # of all ranks' images, for the contact sheet
        self.destinations = Destinations(request.sources, self.output.grid)
        self.told: set[str] = set()
        self._studio: Studio | None = None

    def refuse(self, line: str | None, error: UserError | RunError, own: bool = False) -> None:
        """Report a line that can't be drawn. Raise the error if it isn't about a line.

        Args:
            own: only this rank knows it. What all ranks find out, one reports for all.
        """
        if line is None:
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

    def studio(self) -> Studio:
        """Return the studio, made when it is needed: importing PyTorch takes longer than to find a
        mistake.
        """
        if self._studio is None:
            import torch

            from ..compute import memory
            from ..studio.devices import pick_device
            from ..studio.studio import Studio

            how = self.execution
            device = pick_device(how.device, self.rank.local)
            if how.threads is not None:
                torch.set_num_threads(how.threads)
            if device.type == "cpu":
                memory.keep_freed_memory()
            self._studio = Studio(
                device,
                checkpointing=how.checkpointing,
                compile=how.compile,
                cfg_batch=how.cfg_batch,
            )
        return self._studio

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
        hashes = self.hashes.of(self.studio().files(job))
        return record(job, task.order.inputs, Sources(*hashes, version("torch")), task.index)

    def is_kept(self, path: Path) -> bool:
        """Tell if a file exists and must not be overwritten."""
        return not self.output.clobber and output.is_there(path)

    def done(self, tasks: Sequence[Task]) -> set[int]:
        """Return the numbers of the pictures of an order that need not be drawn.

        Raises:
            RunError: a file of weights can't be had.
            UserError: a record doesn't fit into its file, or another image has its name.
        """
        done = {task.index for task in tasks if self.is_kept(task.path)}
        left = [task for task in tasks if task.index not in done]
        if left:
            last = left[-1]
            self.studio().check(last.order.job)
            self.studio().files(last.order.job)
            if self.output.metadata:
                output.check_room(last.path, partial(self.record, last))
        if self.output.resume:
            done |= {task.index for task in left if output.is_done(task.path, self.record(task))}
        return done

    def prepare(self, part: Sequence[Sequence[Task]]) -> tuple[list[list[Task]], set[int]]:
        """Check a part of the run before any of it is loaded or drawn.

        Returns:
            Its batches without what can't be drawn, and the numbers of pictures that exist.
        """

        def each_order(check: Callable[[Sequence[Task]], None]) -> None:
            tasks = sorted((task for batch in part for task in batch), key=lambda task: task.index)
            for _, own in groupby(tasks, key=lambda task: id(task.order)):
                order_tasks = list(own)
                line = order_tasks[0].order.line
                if line is not None and line in self.refused:
                    continue
                try:
                    check(order_tasks)
                except NoDevice:  # a mistake of the command, not of a line
                    raise
                except (UserError, RunError) as error:
                    self.refuse(line, error, own=True)

        def check_files_of(tasks: Sequence[Task]) -> None:
            order = tasks[0].order
            self.destinations.prepare(tasks)
            check_files(order.job)
            _ = order.inputs  # opens them

        done: set[int] = set()
        each_order(check_files_of)
        each_order(lambda tasks: done.update(self.done(tasks)))
        left = [[task for task in batch if task.order.line not in self.refused] for batch in part]
        return [batch for batch in left if batch], done

    def draw(self, batch: Sequence[Task], done: set[int], progress: Progress) -> None:
        """Draw a batch, write its images and print their paths.

        A batch is drawn whole or not at all: in another one its images would round differently.

        Raises:
            RunError, UserError: it can't be drawn or written.
        """
        begun = time.monotonic()
        with ExitStack() as stack:
            pictures: Sequence[Image | None] = [None] * len(batch)
            if not done.issuperset(task.index for task in batch):
                pictures = self.draw_pictures(batch, progress, stack)
            seconds = (time.monotonic() - begun) / len(batch)
            broken = []
            for task, picture in zip(batch, pictures):
                # It may have appeared in the meantime.
                if task.index in done or self.is_kept(task.path):
                    output.remove_preview(task.path)  # of a run that was killed
                    progress.is_there(task.path)
                elif picture is None:
                    broken.append(task)
                else:
                    made = self.record(task) if self.output.metadata else None
                    output.write(picture, task.path, made, swept=True)
                    progress.is_there(task.path, seconds)
        for task in broken:  # when those beside it are written
            error = RunError(f"{printable(task.path)}: {output.NO_PICTURE}")
            self.refuse(task.order.line, error, own=True)

    def draw_pictures(
        self, batch: Sequence[Task], progress: Progress, stack: ExitStack
    ) -> Sequence[Image | None]:
        """Return the pictures of a batch, None for one that came out broken.

        Args:
            stack: closes previews and locks.
        """
        studio, jobs = self.studio(), [task.job for task in batch]
        preview: Callable[[dict[str, Any]], object] | None = None
        if self.output.preview is not None:
            from .preview import Preview

            paths = [task.path for task in batch]
            preview = stack.enter_context(Preview(paths, self.output.preview))

        def watch(info: dict[str, Any]) -> None:
            progress.draws(len(batch), info["i"] + 1, info["of"])
            if preview is not None:
                preview(info)

        studio.load(jobs[0])
        clean_up_on_interrupt()
        stack.callback(self.destinations.release)
        self.destinations.lock(batch, keep_first=not self.request.lines)
        self.tell_once(f"Using device: {studio.device}", log.info)
        if self.output.metadata:  # hashed while the first is drawn
            self.hashes.start(studio.files(jobs[0]))
        inputs = [task.order.inputs for task in batch]
        return studio.draw_batch(jobs, inputs, watch, disable=True)

    def draw_all(self, batches: Iterable[Sequence[Task]]) -> None:
        """Draw a rank's batches: part by part, each checked before anything of it is drawn.

        A line of a job file that fails doesn't stop the others; a full disk does.
        """
        orders, lines = self.request.orders, self.request.lines
        counts = [] if lines else [order.n for order in orders if isinstance(order, Order)]
        n = None if lines else self.rank.count(counts, self.execution.batch_size)
        with closing(Progress(n, self.rank.reports)) as progress:
            for part in in_parts(batches, 1 if lines else PART):
                kept, done = self.prepare(part)
                for batch in kept:
                    try:
                        self.draw(batch, done, progress)
                    except WriteFailed:
                        raise
                    except (UserError, RunError) as error:
                        for task in batch:
                            self.refuse(task.order.line, error, own=True)

    def go(self) -> None:
        """Draw everything.

        Raises:
            RunError, UserError: something can't be drawn.
        """
        grid = self.output.grid
        if grid is not None:
            output.prepare([grid])
        self.draw_all(self.rank.share(in_batches(self.tasks(), self.execution.batch_size)))
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
    """Draw what is asked for, or this process's share of it.

    Raises:
        RunError, UserError: something can't be drawn.
    """
    take_threads()
    one = Run(request, this_rank())
    with closing(one.destinations):
        one.go()
