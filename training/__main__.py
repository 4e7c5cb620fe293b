"""Makes emoji_64 and its CLIP: draws the data, trains both, going on where a run stopped, and
writes their files and their card."""

import argparse
from pathlib import Path

import torch

from CLIP.clip import load
from CLIP.model import CLIP
from v_diffusion.shell.console import note, open_streams
from v_diffusion.weights import store

from . import card, clip, data, unet, words
from .state import save

STATE = Path(__file__).with_name("state")


def publish(tensors: dict[str, torch.Tensor], name: str) -> None:
    """Writes the tensors as fp16 under the card's file name; its hash and size into the card."""
    path = store.FOLDER / store.cards()[name].file
    half = {
        k: v.detach().to(torch.float16, memory_format=torch.contiguous_format)
        for k, v in tensors.items()
    }
    save(half, path)
    store.record(name)


def trained_clip(pictures: list[data.Picture], folder: Path, on: bool) -> CLIP:
    """Return CLIP after both stages, `on` from what ships, or as `folder` has it."""
    unseen, name = data.paraphrases(), "clip-on" if on else "clip"
    model, done = clip.fresh_model(), folder / f"{name}-done.pt"
    if done.is_file():
        model.load_state_dict(torch.load(done, weights_only=True))
    else:
        start = load("emoji_64_clip", device="cpu")[0] if on else None
        recipe = clip.ON if on else clip.Recipe()
        model = clip.train(pictures, unseen, folder / f"{name}.pt", recipe, start)
        clip.tune_text(model, pictures, unseen, clip.TEXT)
        save(model.state_dict(), done)
    for p in model.parameters():  # the U-Net learns from what the file will hold
        p.data = p.data.half().float()
    return model.eval().requires_grad_(False)


def main() -> None:
    open_streams()
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--state", type=Path, default=STATE, help=f"resumable state (default: {STATE})")
    p.add_argument(
        "--font",
        metavar="FILE",
        help="NotoColorEmoji.ttf, to draw training/emoji.png anew (default: take it as it is)",
    )
    p.add_argument("--steps", type=int, default=unet.Recipe.steps, help="of the U-Net")
    p.add_argument("--lr", type=float, default=unet.Recipe.lr, help="the U-Net's, at its highest")
    p.add_argument(
        "--left-out", type=float, default=unet.Recipe.left_out, help="share of conditions left out"
    )
    p.add_argument(
        "--on",
        action="store_true",
        help="train what ships on: CLIP and then the U-Net",
    )
    args = p.parse_args()
    note("to train takes hours on a CPU; Ctrl-C ends it, and the next call goes on from --state")
    if args.font:
        data.draw_sheet(args.font).save(data.SHEET, optimize=True)
    pictures = data.load()
    print(f"{len(pictures)} pictures, {sum(len(p.captions) for p in pictures)} captions")
    recipe = unet.Recipe(steps=args.steps, lr=args.lr, left_out=args.left_out)
    clip_model = trained_clip(pictures, args.state, args.on)
    start = store.obtain("emoji_64") if args.on else None
    state = args.state / ("on.pt" if args.on else "unet.pt")
    model = unet.train(pictures, clip_model, state, recipe, start)
    publish(clip_model.state_dict(), "emoji_64_clip")
    publish(model.state_dict(), "emoji_64")
    words.write(words.learned(pictures))
    card.write()


if __name__ == "__main__":
    main()
