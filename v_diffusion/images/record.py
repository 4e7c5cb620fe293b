"""Records: the object in an image's file that says how it was made."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..job.command import command_of
from ..job.job import DEFAULT, Job, JobError
from ..job.options import job_options
from ..job.prompt import Prompt
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
ADDED_LATER = {
    "cutn": 16,
    "cut_pow": 1.0,
    "init": None,
    "starting_timestep": None,
    "max_timestep": None,
}


@dataclass(frozen=True)
class Sources:
    """Facts about a picture that its job doesn't have: the files that were used, and versions.

    Args:
        model_sha256, clip_sha256: the hashes of the weights in hexadecimal; None where CLIP wasn't
            used.
        torch_version: PyTorch's version.
        version: this program's version.
    """

    model_sha256: str
    clip_sha256: str | None
    torch_version: str
    version: str = __version__


def record(job: Job, inputs: Inputs, sources: Sources, index: int) -> dict[str, Any]:
    """Return how a picture is made, ready for JSON. Secrets in addresses are left out.

    Args:
        inputs: the job's pictures, opened.
        index: the picture's place in the run, from 0.
    """
    width, height = job.size
    init = inputs.init
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
        "clip": job.clip if job.asks_clip else None,
        "clip_sha256": sources.clip_sha256,
        "clip_checkpoint": job.clip_checkpoint,
        "sampler": SAMPLERS[job.method],
        "seed": job.seed,
        "index": index,
        "steps": job.steps,
        "eta": job.eta,
        "clip_guidance_scale": job.clip_guidance_scale,
        "cutn": job.cutn,
        "cut_pow": job.cut_pow,
        "init": init and {"image": without_secrets(init.path), "sha256": init.sha256},
        "starting_timestep": job.starting_timestep,
        "max_timestep": job.max_timestep,
        "width": width,
        "height": height,
        "command": command_of(job),
    }


def job_of(record: Mapping[str, Any]) -> Job:
    """Return the job that a record describes.

    Raises:
        JobError: this program has no such job.
        KeyError, TypeError, AttributeError, ValueError: it isn't a record of this program.
    """
    script = SCRIPTS[record.get("script", CLIP_SAMPLE.name)]
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
    init = record.get("init")
    options |= {
        "prompts": [Prompt(one["text"], one["weight"]) for one in record["prompts"]],
        "images": [Prompt(one["image"], one["weight"]) for one in record["images"]],
        "init": init and init["image"],
        "method": method,
        "size": (record["width"], record["height"]),
    }
    return Job(script=script.name, **options)


def flat_settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a record that decide its picture, by names for the user.

    Raises:
        KeyError, TypeError, AttributeError: it isn't a record of this program.
    """
    flat = {}
    for i, prompt in enumerate(record["prompts"], 1):
        flat[f"prompt {i}"] = prompt["text"]
        flat[f"prompt {i}'s weight"] = prompt["weight"]
    for i, image in enumerate(record["images"], 1):
        # Not its path: the same picture may have moved.
        flat[f"image prompt {i}'s SHA-256"] = image["sha256"]
        flat[f"image prompt {i}'s weight"] = image["weight"]
    flat["the script"] = record.get("script", CLIP_SAMPLE.name)
    for name, usual in ADDED_LATER.items():
        value = record.get(name, usual)
        # Defaults are left out, and so is the path of the picture to start from.
        if value != usual:
            flat[name.replace("_", " ")] = value["sha256"] if name == "init" else value
    flat["the model's SHA-256"] = record["model_sha256"]
    flat["CLIP's SHA-256"] = record["clip_sha256"]
    for name in ("sampler", "seed", "steps", "eta", "clip_guidance_scale", "width", "height"):
        flat[name.replace("_", " ")] = record[name]
    # Another version of this program may draw another picture. PyTorch's version and the device
    # only round differently, and runs are resumed to go on elsewhere. Index, command and the
    # models' names add nothing to seed, settings and hashes.
    flat["the program's version"] = record["version"]
    return flat


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Return the first setting in which two records differ, its name and both values, or None.

    Raises:
        KeyError, TypeError, AttributeError: one isn't a record of this program.
    """
    olds, news = flat_settings(there), flat_settings(here)

    def show(values: dict[str, Any], name: str) -> str:
        return json.dumps(values[name], ensure_ascii=False) if name in values else "nothing"

    for name in {**news, **olds}:
        if name not in olds or name not in news or olds[name] != news[name]:
            return name, show(olds, name), show(news, name)
    return None
