"""Records: the object in an image's file that says how it was made."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..job.command import command_of
from ..job.job import DEFAULT, Job, JobError
from ..job.options import job_options
from ..job.prompt import Prompt, write_prompt
from ..job.script import CLIP_SAMPLE, SCRIPTS
from ..shell.addresses import without_secrets
from ..version import __version__

if TYPE_CHECKING:
    from .inputs import Inputs

PROGRAM = "v-diffusion"
# The methods as the image tools name them. DDPM is DDIM with eta 1, and recorded as such.
SAMPLERS = {
    "ddpm": "DDIM",
    "ddim": "DDIM",
    "prk": "PRK",
    "plms": "PLMS",
    "pie": "PIE",
    "plms2": "PLMS2",
    "iplms": "iPLMS",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_3m": "DPM++ 3M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
}
# Fields that the first records lacked, and the values that their pictures were made with.
NONE_AT_FIRST = "init mask starting_timestep max_timestep guide_between threshold precision"
ADDED_LATER: dict[str, Any] = {
    **dict.fromkeys(NONE_AT_FIRST.split()),
    "script": CLIP_SAMPLE.name,
    "cutn": 16,
    "cut_pow": 1.0,
    "cut_batches": 1,
    "guides": [],
}
# Fields that decide a picture, beside the prompts. Another version of this program may draw another
# one. PyTorch's version and the device only round differently, and runs are resumed to go on
# elsewhere. Index, command and the models' names add nothing to seed, settings and hashes.
DECISIVE = (
    "script model_sha256 clip_sha256 sampler seed steps eta clip_guidance_scale cutn cut_pow "
    "cut_batches starting_timestep max_timestep guide_between threshold width height version "
    "precision"
).split()


class Sources(NamedTuple):
    """Facts that a job doesn't have; None where CLIP wasn't used, or the precision is the usual."""

    model_sha256: str
    clip_sha256: str | None
    torch_version: str
    version: str = __version__
    guides_sha256: tuple[str, ...] = ()
    precision: str | None = None


def record(job: Job, inputs: Inputs, sources: Sources, index: int) -> dict[str, Any]:
    """Return how the picture with an index in a run is made, ready for JSON, without secrets."""
    width, height = job.size
    init, mask = inputs.init, inputs.mask
    files = len(job.clip_checkpoint)
    return {
        "program": PROGRAM,
        "version": sources.version,
        "torch": sources.torch_version,
        "script": job.script,
        "prompts": [{"text": text, "weight": weight} for text, weight in job.prompts],
        "images": [
            {"image": without_secrets(path), "weight": weight, "sha256": image.sha256}
            for (path, weight), image in zip(job.images, inputs.images)
        ],
        "model": job.model,
        "model_sha256": sources.model_sha256,
        "checkpoint": job.checkpoint,
        "clip": job.own_clip if job.asks_clip else None,
        "clip_sha256": sources.clip_sha256,
        "clip_checkpoint": job.clip_checkpoint[0] if files == 1 else job.clip_checkpoint or None,
        "guides": [
            {"clip": name, "weight": weight, "sha256": sha256}
            for (name, weight), sha256 in zip(job.guides, sources.guides_sha256)
        ],
        "sampler": SAMPLERS[job.method],
        "seed": job.seed,
        "index": index,
        "steps": job.steps,
        "eta": job.eta,
        "clip_guidance_scale": job.clip_guidance_scale,
        "cutn": job.cutn,
        "cut_pow": job.cut_pow,
        "cut_batches": job.cut_batches or 1,  # as of records without it
        "init": init and {"image": without_secrets(str(job.init)), "sha256": init.sha256},
        "starting_timestep": job.starting_timestep,
        "max_timestep": job.max_timestep,
        "mask": mask and {"image": without_secrets(str(job.mask)), "sha256": mask.sha256},
        "guide_between": job.guide_between and list(job.guide_between),
        "threshold": job.threshold,
        "width": width,
        "height": height,
        "precision": sources.precision,
        "command": command_of(job, sources.precision),
    }


def job_of(record: Mapping[str, Any]) -> Job:
    """Return the job of a record. Raises JobError, or nearly anything for what is no record."""
    record = {**ADDED_LATER, **record}
    script = SCRIPTS[record["script"]]
    methods = {name: method for method, name in SAMPLERS.items() if method not in ("ddpm", "ddim")}
    sampler = record["sampler"]
    if sampler not in SAMPLERS.values():
        raise JobError(f"{sampler!r} is not a sampler; known are DDIM, {', '.join(methods)}")
    method = methods.get(sampler, DEFAULT if script is CLIP_SAMPLE else "ddim")
    options = {name: record[name] for name in job_options(script) if name in record}
    if "checkpoint" not in record:  # in older records these files stand in the command alone
        words = shlex.split(record["command"].partition(" -- ")[0])
        for name in ("checkpoint", "clip_checkpoint"):
            flag = f"--{name.replace('_', '-')}"
            options[name] = words[words.index(flag) + 1] if flag in words else None
    init, mask = record["init"], record["mask"]
    if record["guides"]:
        options["clip"] = [Prompt(one["clip"], one["weight"]) for one in record["guides"]]
    options |= {
        "prompts": [Prompt(one["text"], one["weight"]) for one in record["prompts"]],
        "images": [Prompt(one["image"], one["weight"]) for one in record["images"]],
        "init": init and init["image"],
        "mask": mask and mask["image"],
        "method": method,
        "size": (record["width"], record["height"]),
    }
    return Job(script=script.name, **options)


def settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides a record's picture, by names for the user."""
    record = {**ADDED_LATER, **record}
    prompts = [Prompt(one["text"], float(one["weight"])) for one in record["prompts"]]
    # By hash, not path: the same picture may have moved.
    images, guides = (
        [Prompt(one["sha256"], float(one["weight"])) for one in record[name]]
        for name in ("images", "guides")
    )
    return {
        "list of prompts": list(map(write_prompt, prompts)),
        "list of image prompts": list(map(write_prompt, images)),
        "list of CLIPs": list(map(write_prompt, guides)),
        "init image": record["init"] and record["init"]["sha256"],
        "mask": record["mask"] and record["mask"]["sha256"],
        **{name.replace("_", " "): record[name] for name in DECISIVE},
    }


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return the first setting in which two records differ, its name and both values, or None."""
    olds, news = settings(there), settings(here)
    for name, new in news.items():
        if olds[name] != new:
            old, new = (json.dumps(value, ensure_ascii=False) for value in (olds[name], new))
            return name, old, new
    return None
