"""Pictures and numbers of a GPU beside golden ones, the CPU's, and its own of other batches."""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from CLIP import guidance
from diffusion import sampling, utils
from v_diffusion.images.inputs import Inputs
from v_diffusion.job.job import Job
from v_diffusion.studio.studio import Studio

from ..worker import prepared
from .bench import Bench, Figures, golden, grey_levels, of_tests, off_by

UNCONDITIONAL = ("danbooru_128", "imagenet_128", "wikiart_128", "wikiart_256", "yfcc_1", "yfcc_2")


def whole_runs(bench: Bench, precision: str) -> Figures:
    """Draw every run of the original's scripts that the golden data has; in grey levels off."""
    runs, before = of_tests("whole_runs"), Path.cwd()
    studios: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in [] if bench.dry else sorted(runs.EARLIER + runs.LATER, key=runs.model_of):
            name = runs.model_of(case).replace("_cfg", "")
            if name not in studios:
                models = bench.models(name, bench.dtype(precision))
                studios = {name: runs.Lent(models, str(bench.device))}
            os.chdir(folder)
            order = runs.order_of(case, Path(folder))
            os.chdir(before)
            off = runs.grey_levels_off(order, studios[name], case)
            yield " ".join([case["script"], *case["argv"]]), grey_levels(off)


def forwards(bench: Bench, precision: str) -> Figures:
    """Compare every network's golden numbers, as a share of the output's root mean square."""
    dtype, device = bench.dtype(precision), bench.device
    arrays = golden()
    for name in () if bench.dry else ("cc12m_1", *UNCONDITIONAL):
        model = bench.models(name, dtype).model
        prefix, every = ("unet", 16) if name == "cc12m_1" else (f"unet/{name}", 8)
        for i in range(4):
            if f"{prefix}/{i}/meta" not in arrays:
                continue
            b, h, w, t = arrays[f"{prefix}/{i}/meta"].tolist()
            b, h, w = map(int, (b, h, w))
            torch.manual_seed(40 + i)
            x = torch.randn(b, 3, h, w).to(device)
            embed = [torch.randn(b, 512).to(device)] * (name == "cc12m_1")
            with torch.no_grad():
                v = model(x, torch.full((b,), t, device=device), *embed).float()
            seen = v[..., 3::every, 5::every]
            yield f"{name}, {b}x{h}x{w}", off_by(seen, arrays[f"{prefix}/{i}/v"])
    if not bench.dry:
        torch.manual_seed(31)
        picture = torch.randn(2, 3, 224, 224).to(device)
        seen = bench.clip(dtype).encode_image(picture).float()
        yield "CLIP ViT-B/16", off_by(seen, arrays["clip/vit_b_16/image"])


def samplers(bench: Bench) -> Figures:
    """Draw with every sampler from the model in closed form; off by a share of golden numbers."""
    form, device = of_tests("closed_form"), bench.device
    for key, expected in golden().items():
        name, *rest = key.split("/")
        if not (name in ("sample", "cond_sample") or name in sampling.METHODS and len(rest) == 2):
            continue
        batch, n, eta = [float(number) for number in [*rest, "0"][:3]]
        x, extra_args = form.start(int(batch))
        torch.manual_seed(12)
        drawn = sampling.run_method(
            "ddpm" if "sample" in name else name,
            form.model,
            x.to(device),
            form.schedule(int(n)).to(device),
            eta,
            {name: value.to(device) for name, value in extra_args.items()},
            form.cond_fn if name == "cond_sample" else None,
            noise_sampler=lambda x: torch.randn(x.shape).to(x.device),
            disable=True,
        )
        yield key, off_by(drawn, expected)


def pictures(studio: Studio, jobs: list[Job]) -> np.ndarray:
    drawn = studio.draw_batch(jobs, [Inputs()] * len(jobs), disable=True)
    return np.stack([np.asarray(picture) for picture in drawn]).astype(int)


def together(bench: Bench, precision: str) -> Figures:
    """Draw pictures of emoji_64 together, each alone, and on a CPU."""
    studio = Studio(str(bench.device), precision=None if bench.dry else precision)
    how: dict[str, Any] = {"model": "emoji_64", "steps": 2 if bench.dry else 25}
    for scale in (50.0,) if bench.dry else (0.0, 50.0, 500.0):
        how["clip_guidance_scale"] = scale
        jobs = [Job(["fox"], seed=seed, **how) for seed in range(2 if bench.dry else 8)]
        batch = pictures(studio, jobs)
        alone = np.concatenate([pictures(studio, [job]) for job in jobs])
        yield f"guidance {scale:g}: together and alone", grey_levels(np.abs(batch - alone))
        cpu = pictures(Studio("cpu"), jobs)
        yield f"guidance {scale:g}: here and on a CPU", grey_levels(np.abs(batch - cpu))


def asked_for(bench: Bench, precision: str) -> Figures:
    """Count how many pictures of 30 names are nearest to the one that was asked for."""
    from training import data, evaluate
    from training.clip import to_tensor

    known = data.load()
    asked = [one.name for one in known][:: len(known) // 30][: 2 if bench.dry else 30]
    jobs = evaluate.jobs(asked, 50.0, steps=2 if bench.dry else 25)
    drawn = pictures(Studio(str(bench.device), precision=None if bench.dry else precision), jobs)
    seen = torch.from_numpy(drawn).permute(0, 3, 1, 2) / 255
    nearest = evaluate.nearest(seen, to_tensor(known))
    yield "asked", len(asked)
    yield "nearest", sum(known[i].name == name for i, name in zip(nearest, asked))


def strongly_guided(bench: Bench, precision: str) -> Figures:
    """Draw eight pictures of CC12M_1 guided at 500, and two of them alone."""
    models = bench.models("cc12m_1", bench.dtype(precision))
    times = torch.linspace(1, 0, (2 if bench.dry else 10) + 1)[:-1]
    times = utils.get_spliced_ddpm_cosine_schedule(times).to(bench.device)

    def draw(*seeds: int) -> Tensor:
        return prepared(models, seeds, times, guidance.make_cond_fn)()

    batch = draw(*range(2 if bench.dry else 8))
    yield "largest", float(batch.abs().max())
    yield "finite", bool(batch.isfinite().all())
    yield "together and alone", off_by(batch[:2], torch.cat([draw(0), draw(1)]).cpu())


BY_PRECISION = {
    "whole runs": whole_runs,
    "guided at 500": strongly_guided,
    "forwards": forwards,
    "emoji_64": together,
    "asked for": asked_for,
}
