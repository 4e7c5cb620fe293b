#!/usr/bin/env python3
"""CLIP conditioned, CLIP guided sampling of v-diffusion models: words and pictures to pictures."""

from __future__ import annotations

import signal

from diffusion import shell

if __name__ == "__main__":  # before anything that takes time
    signal.signal(signal.SIGINT, shell.leave_at_once)
    shell.require("clip_sample.py", *"torch torchvision requests tqdm ftfy regex PIL".split())

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from checkpoints import store
from diffusion import get_model, get_models, metadata, methods, output
from diffusion.shell import MANY, RunError, UserError

if TYPE_CHECKING:  # --help and a mistyped option answer without importing torch
    import torch
    from PIL.Image import Image
    from torch import Tensor

    from CLIP.model import CLIP

LAST_SEED = 2**64 - 1


def __getattr__(name: str) -> Any:
    """`MakeCutouts` and `spherical_dist_loss`, which scripts import from here."""
    if name in ("MakeCutouts", "spherical_dist_loss"):
        from CLIP import guidance

        return getattr(guidance, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def parse_prompt(prompt: str) -> tuple[str, float]:
    """Splits a prompt into its text, path or address and its weight.

    What follows the last colon is the weight if it is a finite number; otherwise it is part of the
    text, and the weight is 1.
    """
    text, colon, tail = prompt.rpartition(":")
    try:
        weight = float(tail)
    except ValueError:
        return prompt, 1.0
    return (text, weight) if colon and math.isfinite(weight) else (prompt, 1.0)


def build_parser() -> argparse.ArgumentParser:
    cards = store.cards()

    def default(name: str) -> str:
        values = (f"{cards[model].sampling[name]:g} for {model}" for model in get_models())
        return f"(default: {', '.join(values)})"

    p = shell.Parser(
        description=__doc__,
        epilog="A prompt's weight stands after a colon: 'a lighthouse:2' 'fog:-0.5'.",
    )
    p.add_argument("prompts", type=str, default=[], nargs="*", help="the text prompts")
    p.add_argument(
        "--images",
        type=str,
        default=[],
        nargs="*",
        metavar="IMAGE",
        help="the image prompts: files, or HTTP or HTTPS addresses",
    )
    p.add_argument(
        "--batch-size",
        "-bs",
        type=shell.whole_number(1, MANY),
        default=1,
        help="images at a time (default: 1)",
    )
    p.add_argument(
        "--checkpoint",
        type=str,
        help="the model's file (default: the published one, in checkpoints/)",
    )
    p.add_argument(
        "--checkpointing",
        action="store_true",
        help="guide in less memory and more time: compute again instead of keeping",
    )
    p.add_argument(
        "--clip-checkpoint",
        type=str,
        metavar="FILE",
        help="CLIP's file (default: the model's own CLIP)",
    )
    p.add_argument(
        "--clip-guidance-scale",
        "-cs",
        type=shell.number(),
        help=f"how strongly CLIP guides; 0: not at all {default('clip_guidance_scale')}",
    )
    p.add_argument(
        "--compile",
        action="store_true",
        help="compile the model first, which takes a minute: for many images on CUDA",
    )
    p.add_argument("--device", type=str, help="the device (default: CUDA, else MPS, else the CPU)")
    p.add_argument(
        "--eta",
        type=shell.number(0, 1),
        help=f"the share of fresh noise in a step, 0 (DDIM) to 1 (DDPM) {default('eta')}",
    )
    p.add_argument(
        "--method",
        choices=methods.METHODS,
        help="the sampler (default: DDIM to DDPM, as --eta says)",
    )
    p.add_argument(
        "--model", type=str, default="cc12m_1", choices=get_models(), help="(default: cc12m_1)"
    )
    p.add_argument(
        "-n",
        type=shell.whole_number(1, MANY),
        default=1,
        help="the number of images (default: 1)",
    )
    p.add_argument(
        "--no-metadata",
        action="store_true",
        help="leave out of the images how they were made",
    )
    p.add_argument(
        "--output",
        default=output.PATTERN,
        metavar="PATTERN",
        help="where the images go; {i} is an image's number, {seed} its seed; the suffix says the "
        f"format: {', '.join(output.FORMATS)} (default: {output.PATTERN})",
    )
    p.add_argument(
        "--resume",
        action="store_true",
        help="leave out the images that are there, whole, and made with the same settings",
    )
    p.add_argument(
        "--seed",
        type=shell.whole_number(0, LAST_SEED),
        default=0,
        help="the first image's seed; image i has the seed beyond it by i (default: 0)",
    )
    p.add_argument(
        "--steps",
        type=shell.whole_number(1, MANY),
        help=f"the number of steps {default('steps')}",
    )
    return p


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The arguments, checked against each other, with the model's own defaults filled in."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.method is None:
        args.method = "ddpm"  # of whatever eta
    elif args.method in methods.STOCHASTIC:
        args.eta = 1.0 if args.eta is None else args.eta
    elif args.eta:
        parser.error(f"--eta: the method {args.method} draws no noise; leave --eta out")
    else:
        args.eta = 0.0
    for name, value in store.cards()[args.model].sampling.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if not args.prompts and not args.images:
        parser.error("no prompt: give at least one text, or an image with --images")
    if abs(sum(parse_prompt(prompt)[1] for prompt in args.prompts + args.images)) < 1e-3:
        parser.error("the prompts' weights sum to 0; change one of them")
    if args.seed + args.n - 1 > LAST_SEED:
        parser.error(f"the last image's seed would be beyond {LAST_SEED}: take a smaller --seed")
    if args.resume and args.no_metadata:
        parser.error("--resume needs what --no-metadata leaves out: how the images were made")
    for option in ("checkpoint", "clip_checkpoint"):
        path = getattr(args, option)
        if path is not None and not Path(path).is_file():
            parser.error(f"--{option.replace('_', '-')}: {path} is not a file")
    return args


def devices() -> list[str]:
    """The devices that there are, the one to prefer first."""
    import torch

    found = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return found + ["mps"] * torch.backends.mps.is_available() + ["cpu"]


def pick_device(name: str | None) -> torch.device:
    """The device of this name, or else the one to prefer.

    Raises:
        UserError: there is no such device.
    """
    import torch

    found = devices()
    try:
        device = torch.device(name or found[0])
    except RuntimeError:
        device = None
    names = {name for one in found for name in (one, one.split(":")[0])}
    if device is None or str(device) not in names:
        raise UserError(f"--device: there is no {name!r} here, only {', '.join(found)}")
    return device


def load_model(name: str, checkpoint: str | Path | None, device: torch.device) -> torch.nn.Module:
    """The diffusion model in evaluation mode: fp16 on CUDA, fp32 elsewhere."""
    import torch

    from checkpoints import tensors
    from diffusion.models import convolution

    path = Path(checkpoint) if checkpoint else store.obtain(name)
    with torch.device("meta"):
        model = get_model(name)()
    tensors.load_into(model, tensors.read(path), path)
    model = model.eval().requires_grad_(False)
    if device.type == "cpu" and convolution.can_pack():
        return convolution.pack(model.float())
    model = model.half() if device.type == "cuda" else model.float()
    return model.to(device, memory_format=torch.channels_last)


class ImagePrompt(NamedTuple):
    """An image prompt that has been opened."""

    path: str
    weight: float
    picture: Image
    sha256: str  # of its file


def open_images(prompts: list[str]) -> list[ImagePrompt]:
    """Opens the image prompts.

    Raises:
        UserError: one can't be opened or is no picture.
    """
    from diffusion import pictures

    opened = []
    for prompt in prompts:
        path, weight = parse_prompt(prompt)
        try:
            opened.append(ImagePrompt(path, weight, *pictures.open_picture(path)))
        except pictures.PictureError as error:
            raise UserError(f"image prompt {error}") from None
    return opened


def encode_prompts(
    texts: list[tuple[str, float]],
    images: list[ImagePrompt],
    clip_model: CLIP,
    side: int,
    device: torch.device,
) -> Callable[[int], Tensor]:
    """What gives, for an image's seed, the target of all prompts together, [1, D], normalised.

    The texts are encoded at once. The cutouts of the image prompts have a stream of their own for
    each image, so that an image doesn't depend on the run that it is made in.

    Args:
        texts: each with its weight.
        side: the shorter side of the model's pictures.
    """
    from CLIP import clip, prompts
    from diffusion import noise

    for text, _ in texts:
        kept = clip.kept_text(text)
        if kept is not None:
            where = f'is cut after "...{kept[-40:]}"'
            shell.note(f"warning: a prompt is longer than CLIP's 77 tokens and {where}")
    encoded = [(prompts.encode_text(clip_model, text, device), weight) for text, weight in texts]

    def target(seed: int) -> Tensor:
        (stream,) = noise.streams([seed])
        pictures = [
            (prompts.encode_image(clip_model, image.picture, side, stream, device), image.weight)
            for image in images
        ]
        try:
            return prompts.combine(encoded + pictures)
        except ValueError as error:
            raise UserError(error) from None

    if images:
        return target
    alone = target(0)
    return lambda seed: alone


def run(
    args: argparse.Namespace,
    model: torch.nn.Module,
    clip_model: CLIP,
    target: Tensor,
    seeds: Sequence[int],
) -> Tensor:
    """One batch: the pictures [B, 3, H, W] of B seeds.

    Args:
        target: the embedding of all, [1, D], or of each, [B, D].
    """
    import torch

    from CLIP import guidance
    from diffusion import noise, sampling, utils

    streams = noise.streams(seeds)
    x = noise.randn(streams, model.shape, target.device)
    t = torch.linspace(1, 0, args.steps + 1)[:-1]
    steps = utils.get_spliced_ddpm_cosine_schedule(t).to(target.device)
    scale = args.clip_guidance_scale
    with sampling.autocast(target.device):
        conditions = model.conditions(target.expand(len(seeds), -1))
    cutouts_at_once = guidance.CUTOUTS // 4 if args.checkpointing else guidance.CUTOUTS
    return methods.run_method(
        args.method,
        model,
        x,
        steps,
        args.eta,
        conditions,
        guidance.make_cond_fn(clip_model, scale, streams, cutouts_at_once) if scale else None,
        noise_sampler=noise.make_noise_sampler(streams),
    )


def batches(n: int, batch_size: int) -> Iterator[range]:
    """The numbers of each batch's images."""
    return (range(i, min(i + batch_size, n)) for i in range(0, n, batch_size))


@contextmanager
def memory_advice(args: argparse.Namespace, device: torch.device) -> Iterator[None]:
    """Turns running out of memory into a message that says what would help.

    Raises:
        RunError: there was not enough memory.
    """
    import torch

    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # On a CPU torch raises a bare RuntimeError.
        known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not known and "can't allocate memory" not in str(error):
            raise
        remedies = ["a smaller --batch-size"] if args.batch_size > 1 else []
        if args.clip_guidance_scale and not args.checkpointing:
            remedies.append("--checkpointing")
        remedies += ["--clip-guidance-scale 0"] if args.clip_guidance_scale else []
        remedies += ["--model emoji_64"] if args.model != "emoji_64" else []
        advice = f"; what would help: {', '.join(remedies)}" if remedies else ""
        raise RunError(f"out of memory on {device}{advice}") from None


def command(args: argparse.Namespace) -> tuple[str, ...]:
    """The command that makes such an image, less its seed."""
    line = ["./clip_sample.py", "--model", args.model, "--steps", str(args.steps)]
    if args.method not in ("ddpm", "ddim"):  # which eta tells apart
        line += ["--method", args.method]
    line += ["--eta", repr(args.eta), "--clip-guidance-scale", repr(args.clip_guidance_scale)]
    for option in ("checkpoint", "clip_checkpoint"):
        if getattr(args, option) is not None:
            line += [f"--{option.replace('_', '-')}", getattr(args, option)]
    if args.images:
        line += ["--images", *args.images]
    return (*line, "--", *args.prompts) if args.prompts else tuple(line)


def find_files(args: argparse.Namespace) -> tuple[Path, Path]:
    """The model's file and CLIP's, fetched if need be.

    Raises:
        RunError: one can't be had.
    """
    clip_folders = [store.CLIP_CACHE.expanduser()]
    try:
        model = args.checkpoint or store.obtain(args.model)
        clip = args.clip_checkpoint or store.obtain(store.cards()[args.model].clip, clip_folders)
    except store.CheckpointError as error:
        raise RunError(error) from None
    return Path(model), Path(clip)


def start_hashing(files: Sequence[Path]) -> list[Future[str]]:
    """The SHA-256 of each file, computed while the program goes on."""
    with_threads = ThreadPoolExecutor(len(files))
    futures = [with_threads.submit(store.sha256, path) for path in files]
    with_threads.shutdown(wait=False)
    return futures


def sample_all(args: argparse.Namespace) -> None:
    """Everything after the arguments: opens, loads, encodes, samples, writes."""
    paths = output.paths(args.output, args.n, args.seed)
    output.prepare(paths)
    texts, images = [parse_prompt(prompt) for prompt in args.prompts], open_images(args.images)
    device = pick_device(args.device)
    shell.note(f"Using device: {device}")
    files = find_files(args)
    _, height, width = get_model(args.model).shape

    from importlib.metadata import version

    @cache
    def hashes() -> list[Future[str]]:
        return start_hashing(files)

    @cache
    def settings() -> metadata.Settings:
        return metadata.Settings(
            prompts=tuple(texts),
            images=tuple((image.path, image.weight, image.sha256) for image in images),
            model=args.model,
            model_sha256=hashes()[0].result(),
            clip=store.cards()[args.model].clip,
            clip_sha256=hashes()[1].result(),
            steps=args.steps,
            eta=args.eta,
            clip_guidance_scale=args.clip_guidance_scale,
            width=width,
            height=height,
            torch_version=version("torch"),
            command=command(args),
            method=args.method,
        )

    def record(i: int) -> dict[str, Any]:
        """How image i is made."""
        return metadata.record(settings(), args.seed + i, i)

    if not args.no_metadata:
        output.check_room(paths[-1], partial(record, args.n - 1))
    done = {i for i in range(args.n) if args.resume and output.is_done(paths[i], record(i))}
    with memory_advice(args, device):
        draw = make_draw(args, texts, images, files, device) if len(done) < args.n else None
        shell.clean_up_on_interrupt()
        if not args.no_metadata:
            hashes()  # while the first picture is drawn: loading it would hold up
        for batch in batches(args.n, args.batch_size):
            # A batch is made whole or not at all: in another one its images would round otherwise.
            made = draw([args.seed + i for i in batch]) if not done.issuperset(batch) else {}
            for i in batch:
                if i not in done:
                    picture = made[args.seed + i]
                    output.write(picture, paths[i], None if args.no_metadata else record(i))
                print(paths[i], flush=True)


def compile_model(
    model: torch.nn.Module, clip_model: CLIP, device: torch.device
) -> torch.nn.Module:
    """The model compiled where that gains anything, and CLIP with it, in place.

    On a CPU our convolutions are faster than those that the compiler would put in their place.

    Raises:
        UserError: there is no compiler.
    """
    from diffusion import compilation

    if device.type != "cuda":
        shell.note(f"--compile left out: sampling on {device.type} gains nothing by it")
        return model
    try:
        compilation.require_compiler()
        clip_model.encode_image = compilation.compiled(clip_model.encode_image)
        return compilation.compiled(model)
    except compilation.CompilerError as error:
        raise UserError(f"--compile: {error}") from None


def make_draw(
    args: argparse.Namespace,
    texts: list[tuple[str, float]],
    images: list[ImagePrompt],
    files: tuple[Path, Path],
    device: torch.device,
) -> Callable[[list[int]], dict[int, Image]]:
    """Loads and encodes, and gives what makes the pictures of a batch of seeds.

    Raises:
        RunError: a file of weights can't be used.
        UserError: the weights of the prompts can't.
    """
    import torch

    from CLIP import clip
    from diffusion import memory, utils
    from diffusion.models.blocks import use_checkpointing

    if device.type == "cpu" and not args.checkpointing:
        memory.keep_freed_memory()
    try:
        model = load_model(args.model, files[0], device)
        clip_model, _ = clip.load(files[1], device=device)
    except store.CheckpointError as error:
        raise RunError(error) from None
    clip_model.requires_grad_(False)
    if args.checkpointing:
        use_checkpointing(model)
    side = min(model.shape[1:])
    target = encode_prompts(texts, images, clip_model, side, device)
    compiled = compile_model(model, clip_model, device) if args.compile else model

    def draw(seeds: list[int]) -> dict[int, Image]:
        targets = torch.cat([target(seed) for seed in seeds])
        pictures = run(args, compiled, clip_model, targets, seeds)
        return {seed: utils.to_pil_image(x) for seed, x in zip(seeds, pictures)}

    return draw


def main(argv: list[str] | None = None) -> int:
    """Runs the program and returns its exit status."""
    args = parse_args(argv)
    return shell.exit_status("clip_sample.py", lambda: sample_all(args))


if __name__ == "__main__":
    status = main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Python's own end can't be interrupted quietly
    sys.exit(status)
