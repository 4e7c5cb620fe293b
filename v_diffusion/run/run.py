"""A run: which jobs are left, batches and ranks, drawing, writing, resuming."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..images import output
from ..images.names import bad_pattern
from ..images.output import WriteFailed
from ..images.record import Sources, record
from ..shell.console import mention, note, print_line, printable
from ..shell.program import NoDevice, RunError, UserError, clean_up_on_interrupt, listed
from ..studio.files import Hashes
from ..studio.memory import memory_advice
from .destinations import Places, check_inputs, check_names
from .progress import Progress
from .ranks import Rank, take_threads, this_rank, wait_for_all
from .request import Order, Request
from .tasks import Task, in_batches, in_parts, single

if TYPE_CHECKING:
    from PIL.Image import Image

    from diffusion.guidance import Callback

    from ..studio.studio import Studio

PART = 1024  # images that are checked before the first of them is drawn


class Run:
    """One run of a program, from what is asked for to the files.

    Args:
        request: what is asked for.
        rank: the share of this process.
    """

    def __init__(self, request: Request, rank: Rank) -> None:
        self.how, self.keep, self.lines = request.how, request.keep, request.lines
        self.request = request
        self.rank = rank
        self.hashes = Hashes()
        # The lines that can't be drawn, and whether it was a failure: not the error itself, which
        # would keep all that was in memory when it came.
        self.refused: dict[str, bool] = {}
        self.tells = rank.reports  # whether it is for this rank to say what was refused
        self.paths: list[Path] = []  # of all ranks' images, for the contact sheet
        self.places = Places(request.sources, self.keep.grid)
        self.told: set[str] = set()
        self._studio: Studio | None = None

    def refuse(self, line: str | None, error: UserError | RunError, own: bool = False) -> None:
        """Tells of a line that can't be drawn. Of what is no line, raises the error.

        Args:
            own: whether it is this rank's alone. What all find out one tells for all.
        """
        if line is None:
            raise error
        if line not in self.refused:
            self.refused[line] = isinstance(error, RunError)
            self.tells |= own
            if own or self.rank.reports:
                note(f"{line}: {error}")

    def once(self, text: str, say: Callable[[str], None]) -> None:
        """Says for all ranks what is not said yet."""
        if self.rank.reports and text not in self.told:
            say(text)
        self.told.add(text)

    def studio(self) -> Studio:
        """Where it is drawn, made when it is needed: to import PyTorch takes longer than to find a
        mistake.
        """
        if self._studio is None:
            from ..compute import memory
            from ..studio.devices import pick_device, use_threads
            from ..studio.studio import Studio

            device = pick_device(self.how.device, self.rank.local)
            if self.how.threads is not None:
                use_threads(self.how.threads)
            if device.type == "cpu":
                memory.keep_freed_memory()
            how = self.how
            self._studio = Studio(
                device,
                checkpointing=how.checkpointing,
                compile=how.compile,
                cfg_batch=how.cfg_batch,
            )
        return self._studio

    def tasks(self) -> Iterator[Task | None]:
        """All pictures of all ranks, checked as far as the names of their files go."""
        for task in single(self.request.orders, self.refuse):
            if task is not None:
                for doubt in task.order.doubts:
                    self.once(doubt, note)
                if why := self.places.why_not(task):
                    self.refuse(task.order.line, bad_pattern(task.order.output, why))
                    continue
                if self.keep.grid is not None:
                    self.paths.append(task.path)
            yield task

    def check(self, tasks: Sequence[Task]) -> None:
        """Checks what can be without PyTorch.

        Raises:
            UserError: a file is not there, or can't be used or written.
            RunError: a picture can't be fetched, or another process draws one of these.
        """
        self.places.prepare(tasks)
        check_inputs({id(task.order): task.order for task in tasks}.values())

    def record(self, task: Task) -> dict[str, Any]:
        """How a picture is made; waits for the hashes of its weights."""
        job = task.job
        hashes = self.hashes.of(self.studio().files(job))
        sources = Sources(*hashes, version("torch"))
        return record(job, task.order.subject, sources, task.index)

    def is_kept(self, path: Path) -> bool:
        """Whether a file is there and isn't to be written over."""
        return not self.keep.clobber and output.is_there(path)

    def done(self, tasks: Sequence[Task]) -> set[int]:
        """Which pictures are there already and can be left out, by number; with `--no-clobber` all
        that are there.

        Raises:
            RunError: a file of weights can't be had.
            UserError: a record doesn't fit into its file, or a file is there that is another's.
        """
        there = {task.index for task in tasks if self.is_kept(task.path)}
        left = (task for task in tasks if task.index not in there)
        for last in {id(task.order): task for task in left}.values():
            self.studio().check(last.order.job)
            self.studio().files(last.order.job)
            if self.keep.metadata:
                output.check_room(last.path, partial(self.record, last))
        if not self.keep.resume:
            return there
        return {task.index for task in tasks if output.is_done(task.path, self.record(task))}

    def draw(self, batch: Sequence[Task], done: set[int], progress: Progress) -> None:
        """Draws a batch, and says where its images are.

        A batch is drawn whole or not at all: in another one its images would round otherwise.

        Raises:
            RunError, UserError: it can't be drawn or written.
        """
        jobs, subjects = [task.job for task in batch], [task.order.subject for task in batch]
        begun = time.monotonic()
        with ExitStack() as stack:
            pictures: Sequence[Image | None] = []
            broken = []
            if not done.issuperset(task.index for task in batch):
                studio = self.studio()

                def tell(info: dict[str, Any]) -> None:
                    progress.draws(len(batch), info["i"] + 1, info["of"])

                watchers: list[Callback] = [tell]
                if self.keep.preview is not None:
                    from .preview import Preview

                    where = [task.path for task in batch]
                    watchers.append(stack.enter_context(Preview(where, self.keep.preview)))

                def watch(info: dict[str, Any]) -> None:
                    for watcher in watchers:
                        watcher(info)

                with memory_advice(jobs[0], self.how, studio.device):
                    studio.load(jobs[0])
                    clean_up_on_interrupt()
                    stack.callback(self.places.release)
                    self.places.lock(batch, keep_first=not self.lines)
                    self.once(f"Using device: {studio.device}", mention)
                    if self.keep.metadata:  # while the first is drawn: loading it would hold up
                        self.hashes.start(studio.files(jobs[0]))
                    pictures = studio.draw_each(jobs, subjects, watch, disable=True)
            seconds = (time.monotonic() - begun) / len(batch)
            for i, task in enumerate(batch):
                # It may have come in the meantime.
                if task.index in done or self.is_kept(task.path):
                    output.remove_preview(task.path)  # of a run that was killed
                    progress.is_there(task.path)
                    continue
                if (picture := pictures[i]) is None:
                    broken.append(task)
                    continue
                made = self.record(task) if self.keep.metadata else None
                output.write(picture, task.path, made, swept=True)
                progress.is_there(task.path, seconds)
        for task in broken:  # when those beside it are written
            error = RunError(f"{printable(task.path)}: {output.NO_PICTURE}")
            self.refuse(task.order.line, error, own=True)

    def drawable(self, batch: Sequence[Task]) -> tuple[list[Task], set[int]]:
        """What of a batch of lines can be drawn, and which of that is there already."""
        kept, done = [], set()
        for task in batch:
            if task.order.line in self.refused:
                continue
            try:
                self.check([task])
                self.studio()
                done |= self.done([task])
            except NoDevice:  # none of the lines'
                raise
            except (UserError, RunError) as error:
                self.refuse(task.order.line, error, own=True)
            else:
                kept.append(task)
        return kept, done

    def draw_lines(self, batches: Iterable[Sequence[Task]]) -> None:
        """Draws the jobs of a file. One that fails doesn't stop the others; a full disk does."""
        progress = Progress(None, self.rank.reports)
        with closing(progress):
            for batch in batches:
                tasks, done = self.drawable(batch)
                try:
                    if tasks:
                        self.draw(tasks, done, progress)
                except WriteFailed:
                    raise
                except (UserError, RunError) as error:
                    for task in tasks:
                        self.refuse(task.order.line, error, own=True)

    def draw_all(self, batches: Iterable[Sequence[Task]]) -> None:
        """Draws what a command asks for. Before anything of it is loaded it is checked; of very
        many pictures a part, and each further part before that is drawn.
        """
        orders = [order for order in self.request.orders if isinstance(order, Order)]
        check_names(orders)
        check_inputs(orders)
        n = self.rank.count([order.n for order in orders], self.how.batch_size)
        progress = Progress(n, self.rank.reports)
        with closing(progress):
            for part in in_parts(batches, PART):
                tasks = [task for batch in part for task in batch]
                self.check(tasks)
                done = self.done(tasks)
                for batch in part:
                    self.draw(batch, done, progress)

    def go(self) -> None:
        """Draws everything.

        Raises:
            RunError, UserError: something can't be drawn.
        """
        if self.keep.grid is not None:
            output.prepare([self.keep.grid])
        batches = self.rank.share(in_batches(self.tasks(), self.how.batch_size))
        if self.lines:
            self.draw_lines(batches)
        else:
            self.draw_all(batches)
        incomplete = wait_for_all(self.rank, bool(self.refused))
        if self.refused and self.tells:
            text = f"not drawn: {listed(list(self.refused))}"
            # Who asks again after a failure may have more luck; after a mistake not.
            raise RunError(text) if any(self.refused.values()) else UserError(text)
        if self.keep.grid is not None and self.rank.reports and not incomplete:
            from ..images.contact_sheet import write_sheet

            if not self.is_kept(self.keep.grid):
                write_sheet(self.paths, self.keep.grid)
            print_line(self.keep.grid)


def run(request: Request) -> None:
    """Draws what is asked for, or this process's share of it.

    Raises:
        RunError, UserError: something can't be drawn.
    """
    take_threads()
    one = Run(request, this_rank())
    with closing(one.places):
        one.go()
