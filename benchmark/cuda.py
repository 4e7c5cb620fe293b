"""Proves the program on a GPU: `python -m benchmark cuda`.

It makes the stand-in weights that the tests have, draws what the original drew with them, compares
numbers and pictures, and then measures speed beside the original's way (`cuda_speed`). It takes six
minutes on an H100. With --dry it does what it can with small models on a CPU: does it run?
"""

import argparse
import contextlib
import importlib
import json
import os
import runpy
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from CLIP import model as clip
from diffusion import get_model, sampling, utils
from v_diffusion.job.job import Job
from v_diffusion.shell.console import Parser
from v_diffusion.studio.models import Models, for_drawing
from v_diffusion.studio.studio import DTYPES, Studio

from . import ROOT, STATE
from .weights import DATA

UNCONDITIONAL = ("danbooru_128", "imagenet_128", "wikiart_128", "wikiart_256", "yfcc_1", "yfcc_2")
Numbers = dict[str, Any]


def of_tests(name: str) -> Any:
    """Import a module of the tests."""
    path = str(ROOT / "tests")
    if path not in sys.path:
        sys.path.insert(0, path)
    return importlib.import_module(name)


@dataclass
class Bench:
    """The device, and weights that are made at their first use."""

    device: torch.device
    dry: bool
    weights: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def state_dict(self, name: str) -> dict[str, Tensor]:
        if name not in self.weights:
            made = runpy.run_path(str(DATA / "standin_weights.py"))
            shapes = json.loads((DATA / f"{name}.manifest.json").read_text())
            recipe = made["RECIPES"].get(name, {})
            with ThreadPoolExecutor() as pool:
                tensors = pool.map(lambda item: made["fill"](*item, **recipe), shapes.items())
                self.weights[name] = dict(zip(shapes, tensors))
            if name.startswith("clip"):
                rounded = {k: v.half().float() for k, v in self.weights[name].items()}
                self.weights[name] = rounded
        return self.weights[name]

    def model(self, name: str, dtype: torch.dtype) -> nn.Module:
        """A diffusion model as `load_model` makes it, but for its memory format."""
        networks = of_tests("networks") if self.dry else None
        if networks is not None:
            torch.manual_seed(0)
            model: nn.Module = networks.SmallCC12M()
        else:
            with clip.on_meta():
                model = get_model(name)()
            model.load_state_dict(self.state_dict(name), assign=True)
        return model.eval().requires_grad_(False).to(self.device, dtype)

    def clip(self, dtype: torch.dtype) -> clip.CLIP:
        if self.dry:
            torch.manual_seed(0)
            model: clip.CLIP = of_tests("networks").ImageTower().clip
        else:
            model = clip.build_model(self.state_dict("clip_vit_b_16"))
        model = clip.half_precision(model, dtype).to(self.device)
        return model.eval().requires_grad_(False)

    def models(self, name: str, dtype: torch.dtype) -> Models:
        """Models as the program draws with them."""
        model = self.model(name, dtype).to(memory_format=torch.channels_last)
        return for_drawing(Models(model, self.clip(dtype)), self.device, checkpointing=False)

    def dtype(self, precision: str) -> torch.dtype:
        return torch.float32 if self.dry else DTYPES[precision]


def off_by(found: Tensor, expected: Any) -> float:
    """The root mean square of the difference, as a share of that of what is expected."""
    expected = torch.as_tensor(expected, dtype=torch.float64)
    difference = found.detach().double().cpu() - expected
    return float(difference.norm() / expected.norm())


def grey_levels(off: np.ndarray) -> Numbers:
    shares = {f"within {n}": float((off <= n).mean()) for n in (1, 2, 4)}
    return {"most": int(off.max()), "mean": float(off.mean()), **shares}


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(DATA / f"{name}.npz") as arrays:
        return dict(arrays)


@contextlib.contextmanager
def working_in(folder: str) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def whole_runs(bench: Bench, precision: str) -> Iterator[tuple[str, Any]]:
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


def forwards(bench: Bench, precision: str) -> Iterator[tuple[str, Any]]:
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


def samplers(bench: Bench) -> Iterator[tuple[str, Any]]:
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


def together(bench: Bench, precision: str) -> Iterator[tuple[str, Any]]:
    """Pictures of emoji_64 drawn together beside each alone, and beside those of a CPU."""
    studio = Studio(str(bench.device), precision=precision)
    steps = 2 if bench.dry else 25
    for scale in (0.0, 50.0, 500.0):
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


def asked_for(bench: Bench, precision: str) -> Iterator[tuple[str, Any]]:
    """Of 30 names how many pictures of emoji_64 are nearest to the one that was asked for."""
    from training import data, evaluate
    from training.clip import to_tensor

    known = data.load()
    asked = [one.name for one in known][:: len(known) // 30][: 2 if bench.dry else 30]
    jobs = evaluate.jobs(asked, 50.0, steps=2 if bench.dry else 25)
    drawn = pictures(Studio(str(bench.device), precision=precision), jobs)
    seen = torch.from_numpy(drawn).permute(0, 3, 1, 2) / 255
    nearest = [known[i].name for i in evaluate.nearest(seen, to_tensor(known))]
    yield "asked", len(asked)
    yield "nearest", sum(a == b for a, b in zip(asked, nearest))


def strongly_guided(bench: Bench, precision: str) -> Iterator[tuple[str, Any]]:
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


def card(bench: Bench) -> Iterator[tuple[str, Any]]:
    """The versions, and the card's limits as PyTorch reaches them."""
    yield "torch", torch.__version__
    yield "cores", os.cpu_count()
    if bench.device.type != "cuda":
        return
    yield "gpu", torch.cuda.get_device_name()
    yield "cuda", torch.version.cuda
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.float16) for _ in range(2))
    from .cuda_speed import seconds

    yield "fp16 TFLOP/s", 2 * 8192**3 / seconds(lambda: a @ b, 10) / 1e12
    big = torch.empty(1 << 31, device="cuda", dtype=torch.uint8)
    yield "copies GB/s", 2 * big.numel() / seconds(lambda: big.clone(), 5) / 1e9


def parts(bench: Bench) -> dict[str, Callable[[], Iterator[tuple[str, Any]]]]:
    """Everything in order, each a function that yields figures by name."""
    from . import cuda_speed as speed

    found: dict[str, Any] = {"card": lambda: card(bench)}
    found["samplers"] = lambda: samplers(bench)
    for precision in ("fp16", "fp32"):
        half = precision if bench.device.type == "cuda" else "fp32"
        found[f"emoji_64, {precision}"] = lambda p=half: together(bench, p)
        found[f"asked for, {precision}"] = lambda p=half: asked_for(bench, p)
        found[f"whole runs, {precision}"] = lambda p=precision: whole_runs(bench, p)
    found["guided at 500, fp16"] = lambda: strongly_guided(bench, "fp16")
    found["waits"] = lambda: speed.waits(bench)
    found["kernels"] = lambda: speed.kernels(bench)
    found["start"] = lambda: speed.starts(bench)
    found["speed"] = lambda: speed.steps(bench)
    found["images"] = lambda: speed.images(bench)
    found["forwards, fp16"] = lambda: forwards(bench, "fp16")
    found["compiled"] = lambda: speed.compiled(bench)
    return found


def shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {shown(one)}" for key, one in value.items())
    return str(value)


def main(argv: list[str]) -> None:
    p = Parser(
        prog="python -m benchmark cuda",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("parts", nargs="*", metavar="PART", help="whose names begin so (all)")
    p.add_argument("--out", type=Path, default=STATE / "cuda.json", metavar="FILE")
    p.add_argument("--dry", action="store_true", help="small models on a CPU: does it run?")
    args = p.parse_args(argv)
    if not (args.dry or torch.cuda.is_available()):
        p.error("no CUDA device is here; use --dry")
    bench = Bench(torch.device("cpu" if args.dry else "cuda:0"), args.dry)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    results: Numbers = {}
    failed, begun = False, time.monotonic()
    for name, part in parts(bench).items():
        if args.parts and not name.startswith(tuple(args.parts)):
            continue
        print(f"[{time.monotonic() - begun:.0f} s] {name}", flush=True)
        figures = results[name] = {}
        try:
            for key, value in part():
                figures[key] = value
                print(f"  {key}: {shown(value)}", flush=True)
        except Exception as error:  # the other parts are worth having
            failed = True
            figures["error"] = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        if not args.dry:
            torch.cuda.empty_cache()
        args.out.write_text(json.dumps(results, indent=1) + "\n")
    print(f"[{time.monotonic() - begun:.0f} s] written: {args.out}")
    sys.exit(failed)
