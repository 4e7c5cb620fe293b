#!/usr/bin/env python3
"""CLIP conditioned, CLIP guided sampling of v-diffusion models: words and pictures to pictures."""

from __future__ import annotations

import signal

from diffusion import shell

if __name__ == "__main__":  # before anything that takes time
    signal.signal(signal.SIGINT, shell.leave_at_once)

import argparse
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from checkpoints import store
from diffusion import get_model, get_models
from diffusion.shell import MANY, RunError, UserError

if TYPE_CHECKING:  # --help and a mistyped option answer without importing torch
    import torch
    from PIL.Image import Image
    from torch import Tensor

    from CLIP.model import CLIP

CUTOUTS = 16
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
    p.add_argument("--device", type=str, help="the device (default: CUDA, else MPS, else the CPU)")
    p.add_argument(
        "--eta",
        type=shell.number(0, 1),
        help=f"the share of fresh noise in a step, 0 (DDIM) to 1 (DDPM) {default('eta')}",
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
    for name, value in store.cards()[args.model].sampling.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if not args.prompts and not args.images:
        parser.error("no prompt: give at least one text, or an image with --images")
    if args.seed + args.n - 1 > LAST_SEED:
        parser.error(f"the last image's seed would be beyond {LAST_SEED}: take a smaller --seed")
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
    if device is None or not any(str(device) in (one, one.split(":")[0]) for one in found):
        raise UserError(f"--device: there is no {name!r} here, only {', '.join(found)}")
    return device


def load_model(name: str, checkpoint: str | None, device: torch.device) -> torch.nn.Module:
    """The diffusion model in evaluation mode: fp16 on CUDA, fp32 elsewhere."""
    import torch

    from checkpoints import tensors

    path = Path(checkpoint) if checkpoint else store.obtain(name)
    with torch.device("meta"):
        model = get_model(name)()
    tensors.load_into(model, tensors.read(path), path)
    model = model.half() if device.type == "cuda" else model.float()
    model = model.to(device, memory_format=torch.channels_last)
    return model.eval().requires_grad_(False)


def encode_text(clip_model: CLIP, text: str, device: torch.device) -> Tensor:
    """A text prompt's embedding [1, D], as the text tower gives it. What CLIP can't read is cut."""
    from CLIP import clip

    kept = clip.kept_text(text)
    if kept is not None:
        shell.note(f'a prompt is longer than CLIP\'s 77 tokens; it is cut after "...{kept[-40:]}"')
    return clip_model.encode_text(clip.tokenize(text, truncate=True).to(device)).float()


def encode_image(
    clip_model: CLIP, image: Image, side: int, stream: torch.Generator, device: torch.device
) -> Tensor:
    """The normalised embeddings [16, D] of an image prompt's cutouts.

    Args:
        side: the picture's shorter side is made no longer than this.
        stream: where the cutouts' places are drawn from.
    """
    import torch.nn.functional as F
    from torchvision.transforms import functional as TF

    from CLIP import clip, guidance

    image = TF.resize(image, min(side, *image.size), TF.InterpolationMode.LANCZOS)
    make_cutouts = guidance.MakeCutouts(clip_model.visual.input_resolution, CUTOUTS)
    cutouts = make_cutouts(TF.to_tensor(image)[None], [stream]).to(device)
    embeds = clip_model.encode_image(TF.normalize(cutouts, clip.MEAN, clip.STD))
    return F.normalize(embeds.float(), dim=-1)


def combine(embeds: list[Tensor], weights: list[float]) -> Tensor:
    """The normalised weighted sum [1, D] of embeddings.

    Args:
        embeds: [N_i, D] each.
        weights: one for each row; they are divided by the absolute value of their sum.

    Raises:
        UserError: the weights sum to 0.
    """
    import torch
    import torch.nn.functional as F

    stacked = torch.cat(embeds)
    weight = torch.tensor(weights, device=stacked.device)
    total = weight.sum().abs()
    if total < 1e-3:
        raise UserError("the prompts' weights sum to 0; change one of them")
    if not torch.isfinite(weight).all() or not torch.isfinite(total):
        raise UserError("the prompts' weights are too large; scale them down")
    return F.normalize((stacked * (weight / total)[:, None]).sum(0, keepdim=True), dim=-1)


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
    stream: torch.Generator,
    device: torch.device,
) -> Tensor:
    """The target of all prompts together, [1, D], normalised.

    Args:
        texts: each with its weight.
        side: the shorter side of the model's pictures.
        stream: where the places of the image prompts' cutouts are drawn from.
    """
    import torch

    embeds, weights = [], []
    with torch.no_grad():
        for text, weight in texts:
            embeds.append(encode_text(clip_model, text, device))
            weights.append(weight)
        for image in images:
            embeds.append(encode_image(clip_model, image.picture, side, stream, device))
            weights.extend([image.weight / CUTOUTS] * CUTOUTS)
        return combine(embeds, weights)


def guide(
    clip_model: CLIP,
    scale: float,
    streams: list[torch.Generator],
    x: Tensor,
    t: Tensor,
    pred: Tensor,
    clip_embed: Tensor,
) -> Tensor:
    """Minus the gradient to x of how far CLIP sees pred from the target.

    With its first three arguments given, it is a `cond_fn` of `diffusion.sampling`.

    Args:
        streams: one for each image, where the places of its cutouts are drawn from.
        x, pred: [B, 3, H, W]; pred in -1 to 1.
        clip_embed: the targets, [B, D].
    """
    import torch
    from torchvision.transforms import functional as TF

    from CLIP import clip, guidance

    make_cutouts = guidance.MakeCutouts(clip_model.visual.input_resolution, CUTOUTS)
    cutouts = TF.normalize(make_cutouts((pred + 1) / 2, streams), clip.MEAN, clip.STD)
    embeds = clip_model.encode_image(cutouts).float().view(CUTOUTS, x.shape[0], -1)
    losses = guidance.spherical_dist_loss(embeds, clip_embed[None])
    return -torch.autograd.grad(losses.mean(0).sum() * scale, x)[0]


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

    from diffusion import noise, sampling, utils

    streams = noise.streams(seeds)
    x = noise.randn(streams, model.shape, target.device)
    t = torch.linspace(1, 0, args.steps + 1)[:-1]
    steps = utils.get_spliced_ddpm_cosine_schedule(t).to(target.device)
    extra_args = {"clip_embed": target.expand(len(seeds), -1)}
    noise_sampler = noise.make_noise_sampler(streams)
    if not args.clip_guidance_scale:
        return sampling.sample(model, x, steps, args.eta, extra_args, noise_sampler=noise_sampler)
    cond_fn = partial(guide, clip_model, args.clip_guidance_scale, streams)
    return sampling.cond_sample(
        model, x, steps, args.eta, extra_args, cond_fn, noise_sampler=noise_sampler
    )


def batches(n: int, batch_size: int, seed: int) -> Iterator[tuple[int, range]]:
    """For each batch, the index of its first image and its images' seeds."""
    for i in range(0, n, batch_size):
        yield i, range(seed + i, seed + min(i + batch_size, n))


def save(x: Tensor, path: Path) -> None:
    """Writes a picture [3, H, W] beside its place and renames it into it."""
    from diffusion import utils

    partial_path = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        utils.to_pil_image(x).save(partial_path, format="PNG")
        os.replace(partial_path, path)
    finally:
        partial_path.unlink(missing_ok=True)


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
        remedies += ["--clip-guidance-scale 0"] if args.clip_guidance_scale else []
        remedies += ["--model emoji_64"] if args.model != "emoji_64" else []
        advice = f"; what would help: {', '.join(remedies)}" if remedies else ""
        raise RunError(f"out of memory on {device}{advice}") from None


def sample_all(args: argparse.Namespace) -> None:
    """Everything after the arguments: loads, encodes, samples, writes."""
    device = pick_device(args.device)
    shell.note(f"Using device: {device}")
    texts, images = [parse_prompt(prompt) for prompt in args.prompts], open_images(args.images)

    from CLIP import clip
    from diffusion import noise

    try:
        model = load_model(args.model, args.checkpoint, device)
        clip_model, _ = clip.load(args.clip_checkpoint or model.clip_model, device=device)
    except store.CheckpointError as error:
        raise RunError(error) from None
    clip_model.requires_grad_(False)
    (stream,) = noise.streams([args.seed])
    target = encode_prompts(texts, images, clip_model, min(model.shape[1:]), stream, device)
    for i, seeds in batches(args.n, args.batch_size, args.seed):
        for j, picture in enumerate(run(args, model, clip_model, target, seeds)):
            path = Path(f"out_{i + j:05}.png")
            save(picture, path)
            print(path, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Runs the program and returns its exit status."""
    args = parse_args(argv)
    return shell.exit_status("clip_sample.py", lambda: sample_all(args))


if __name__ == "__main__":
    status = main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Python's own end can't be interrupted quietly
    sys.exit(status)
