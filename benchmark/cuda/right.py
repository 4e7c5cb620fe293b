"""Whether what a GPU draws is right: beside golden numbers, the CPU, and itself."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusion import sampling, utils
from v_diffusion.job.job import Job
from v_diffusion.studio.studio import Studio

from ..weights import DATA
from .bench import Bench, Figures, golden, grey_levels, of_tests, off_by

UNCONDITIONAL = ("danbooru_128", "imagenet_128", "wikiart_128", "wikiart_256", "yfcc_1", "yfcc_2")


@contextlib.contextmanager
def working_in(folder: str) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def whole_runs(bench: Bench, precision: str) -> Figures:
    """Every run of the original's scripts that the golden data has, in grey levels off."""
    if bench.dry:
        return
    runs = of_tests("whole_runs")
    cases = json.loads((DATA / "e2e" / "e2e.json").read_text())
    cases = [{**case, "script": "clip_sample.py", "folder": "e2e"} for case in cases] + runs.LATER
    cases.sort(key=runs.model_of)
    studios: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, working_in(folder):
        for case in cases:
            name = runs.model_of(case).replace("_cfg", "")
            if name not in studios:
                models = bench.models(name, bench.dtype(precision))
                studios = {name: runs.Lent(models, str(bench.device))}
            order = runs.order_of(case, Path(folder))
            off = runs.grey_levels_off(order, studios[name], case)
            yield " ".join([case["script"], *case["argv"]]), grey_levels(off)


def forwards(bench: Bench, precision: str) -> Figures:
    """Every network's golden numbers, as a share of the output's root mean square."""
    if bench.dry:
        return
    dtype, device = bench.dtype(precision), bench.device
    for name in ("cc12m_1", *UNCONDITIONAL):
        arrays = golden("golden" if name == "cc12m_1" else "later")
        model = bench.models(name, dtype).model
        prefix, first, every = ("unet/", 3, 16) if name == "cc12m_1" else (f"unet/{name}/", 3, 8)
        for i in range(4):
            if f"{prefix}{i}/meta" not in arrays:
                continue
            b, h, w, t = arrays[f"{prefix}{i}/meta"].tolist()
            torch.manual_seed(40 + i)
            x = torch.randn(int(b), 3, int(h), int(w)).to(device)
            embed = [torch.randn(int(b), 512).to(device)] * (name == "cc12m_1")
            with torch.no_grad():
                v = model(x, torch.full((int(b),), t, device=device), *embed).float()
            seen = v[..., first::every, 5::every]
            yield f"{name}, {int(b)}x{int(h)}x{int(w)}", off_by(seen, arrays[f"{prefix}{i}/v"])
        del model
        if name != "cc12m_1":
            bench.weights.pop(name)
    torch.manual_seed(31)
    picture = torch.randn(2, 3, 224, 224).to(device)
    seen = bench.clip(dtype).encode_image(picture).float()
    yield "CLIP ViT-B/16", off_by(seen, golden("golden")["clip/vit_b_16/image"])


def samplers(bench: Bench) -> Figures:
    """Every sampler on the model in closed form, as a share of the golden numbers' size."""
    form, device = of_tests("closed_form"), bench.device

    def draw(name: str, batch: int, n: int, eta: float, cond_fn: Any = None) -> Tensor:
        x, extra_args = form.start(batch)
        there = {key: value.to(device) for key, value in extra_args.items()}
        torch.manual_seed(12)
        return sampling.run_method(
            name,
            form.model,
            x.to(device),
            form.schedule(n).to(device),
            eta,
            there,
            cond_fn,
            noise_sampler=lambda x: torch.randn(x.shape).to(x.device),
            disable=True,
        )

    for key, expected in {**golden("golden"), **golden("later")}.items():
        name, *rest = key.split("/")
        if name in ("sample", "cond_sample"):
            cond_fn = form.cond_fn if name == "cond_sample" else None
            drawn = draw("ddpm", int(rest[0]), int(rest[1]), float(rest[2]), cond_fn)
            yield key, off_by(drawn, expected)
        elif name in sampling.METHODS and len(rest) == 2:
            yield key, off_by(draw(name, int(rest[0]), int(rest[1]), 0.0), expected)


def pictures(studio: Studio, jobs: list[Job]) -> np.ndarray:
    from v_diffusion.images.inputs import open_inputs

    drawn = studio.draw_batch(jobs, [open_inputs(job) for job in jobs], disable=True)
    return np.stack([np.asarray(picture) for picture in drawn]).astype(int)


def together(bench: Bench, precision: str) -> Figures:
    """Pictures of emoji_64 drawn together beside each alone, and beside those of a CPU."""
    studio = Studio(str(bench.device), precision=None if bench.dry else precision)
    steps = 2 if bench.dry else 25
    for scale in (50.0,) if bench.dry else (0.0, 50.0, 500.0):
        seeds = range(2 if bench.dry else 8)
        jobs = [
            Job(["fox"], model="emoji_64", clip_guidance_scale=scale, steps=steps, seed=seed)
            for seed in seeds
        ]
        batch = pictures(studio, jobs)
        alone = np.concatenate([pictures(studio, [job]) for job in jobs])
        yield f"guidance {scale:g}: together and alone", grey_levels(np.abs(batch - alone))
        cpu = pictures(Studio("cpu"), jobs)
        yield f"guidance {scale:g}: here and on a CPU", grey_levels(np.abs(batch - cpu))


def asked_for(bench: Bench, precision: str) -> Figures:
    """Of 30 names how many pictures of emoji_64 are nearest to the one that was asked for."""
    from training import data, evaluate
    from training.clip import to_tensor

    known = data.load()
    asked = [one.name for one in known][:: len(known) // 30][: 2 if bench.dry else 30]
    jobs = evaluate.jobs(asked, 50.0, steps=2 if bench.dry else 25)
    drawn = pictures(Studio(str(bench.device), precision=None if bench.dry else precision), jobs)
    seen = torch.from_numpy(drawn).permute(0, 3, 1, 2) / 255
    nearest = [known[i].name for i in evaluate.nearest(seen, to_tensor(known))]
    yield "asked", len(asked)
    yield "nearest", sum(a == b for a, b in zip(asked, nearest))


def strongly_guided(bench: Bench, precision: str) -> Figures:
    """The largest numbers of CC12M_1's pictures, guided at 500, and of eight beside one alone."""
    models = bench.models("cc12m_1", bench.dtype(precision))
    steps = form_schedule(2 if bench.dry else 10, bench.device)
    from CLIP import guidance
    from diffusion import noise

    def draw(seeds: list[int]) -> Tensor:
        streams = noise.streams(seeds)
        x = noise.randn(streams, models.model.shape, bench.device)
        size = models.clip.visual.output_dim
        embed = torch.randn(1, size, generator=torch.Generator().manual_seed(9)).to(bench.device)
        target = embed.expand(len(seeds), -1)
        cond_fn = guidance.make_cond_fn(models.clip, target, 500.0, streams)
        conditions = models.model.conditions(target)
        return sampling.cond_sample(models.model, x, steps, 0.0, conditions, cond_fn, disable=True)

    seeds = [0, 1] if bench.dry else [*range(8)]
    batch = draw(seeds)
    yield "largest", float(batch.abs().max())
    yield "finite", bool(batch.isfinite().all())
    alone = torch.cat([draw([seed]) for seed in seeds[:2]])
    yield "together and alone", off_by(batch[:2], alone.cpu())


def form_schedule(n: int, device: torch.device) -> Tensor:
    steps = torch.linspace(1, 0, n + 1)[:-1]
    return utils.get_spliced_ddpm_cosine_schedule(steps).to(device)


BY_PRECISION = {
    "whole runs": whole_runs,
    "guided at 500": strongly_guided,
    "forwards": forwards,
    "emoji_64": together,
    "asked for": asked_for,
}
