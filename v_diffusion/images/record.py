"""How a picture was made, as the object that goes into its file: from a job and back to one."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..job.job import UNSAID, Job, JobError
from ..job.prompt import Subject, write_prompt
from ..job.script import CLIP_SAMPLE, SCRIPTS
from ..shell.addresses import without_secrets
from ..version import __version__

PROGRAM = "v-diffusion"
# The methods as the image tools name them. DDPM is DDIM with an eta of 1, and recorded as such.
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
# What records didn't have at first, and what pictures were made with then.
LATER = {
    "cutn": 16,
    "cut_pow": 1.0,
    "init": None,
    "starting_timestep": None,
    "max_timestep": None,
}


@dataclass(frozen=True)
class Sources:
    """What a job doesn't say of its picture: what the files that it names turned out to be.

    Args:
        model_sha256, clip_sha256: the hashes of their files, in hexadecimal, whole or cut; None of
            a CLIP that nobody asked.
        torch_version: PyTorch's version.
        version: this program's version.
    """

    model_sha256: str
    clip_sha256: str | None
    torch_version: str
    version: str = __version__


def record(job: Job, subject: Subject, sources: Sources, index: int) -> dict[str, Any]:
    """How one picture is made, ready for JSON. Of addresses it has no passwords and the like.

    Args:
        subject: the job's prompts, opened.
        index: its place in the run, from 0.
    """
    width, height = job.size
    init = None
    if subject.init is not None:
        init = {"image": without_secrets(subject.init.path), "sha256": subject.init.sha256}
    return {
        "program": PROGRAM,
        "version": sources.version,
        "torch": sources.torch_version,
        "script": job.script,
        "prompts": [{"text": text, "weight": weight} for text, weight in subject.texts],
        "images": [
            {"image": without_secrets(image.path), "weight": image.weight, "sha256": image.sha256}
            for image in subject.images
        ],
        "model": job.model,
        "model_sha256": sources.model_sha256,
        "clip": job.clip if job.asks_clip else None,
        "clip_sha256": sources.clip_sha256,
        "sampler": SAMPLERS[job.method],
        "seed": job.seed,
        "index": index,
        "steps": job.steps,
        "eta": job.eta,
        "clip_guidance_scale": job.clip_guidance_scale,
        "cutn": job.cutn,
        "cut_pow": job.cut_pow,
        "init": init,
        "starting_timestep": job.starting_timestep,
        "max_timestep": job.max_timestep,
        "width": width,
        "height": height,
        "command": job.command(),
    }


def job_of(record: Mapping[str, Any]) -> Job:
    """The job that a record tells.

    Raises:
        JobError: this program knows no such job.
        KeyError, TypeError, AttributeError, ValueError: it is no record of this program.
    """
    methods = {name: method for method, name in SAMPLERS.items() if method not in ("ddpm", "ddim")}
    sampler = record["sampler"]
    if sampler not in SAMPLERS.values():
        raise JobError(f"no sampler {sampler!r}: there are {', '.join(methods)} and DDIM")
    # The files' paths stand in the command alone.
    words = shlex.split(record["command"])
    words = words[: words.index("--")] if "--" in words else words
    script = SCRIPTS[record.get("script", CLIP_SAMPLE.name)]
    weight = script.prompt_weight
    paths: dict[str, Any] = {
        name: words[words.index(option) + 1]
        for name in ("checkpoint", "clip_checkpoint")
        if (option := f"--{name.replace('_', '-')}") in words
    }
    same = ["model", "steps", "eta", "clip_guidance_scale", "seed"]
    same += [name for name in LATER if name in record and name != "init"]
    options: dict[str, Any] = {name: record[name] for name in same if script.has(name)}
    if record.get("clip") and script.has("clip"):
        options["clip"] = record["clip"]
    if record.get("init"):
        options["init"] = record["init"]["image"]
    method = methods.get(sampler, UNSAID)
    if method is UNSAID and script is not CLIP_SAMPLE:
        method = "ddim"
    return Job(
        prompts=[write_prompt(one["text"], one["weight"], weight) for one in record["prompts"]],
        images=[write_prompt(one["image"], one["weight"], weight) for one in record["images"]],
        method=method,
        size=(record["width"], record["height"]),
        script=script.name,
        **options,
        **paths,
    )


def flat_settings(record: Mapping[str, Any]) -> dict[str, Any]:
    """What of a record decides how its image looks, by names to tell the user.

    Raises:
        KeyError, TypeError, AttributeError: it is no record of this program.
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
    for name, usual in LATER.items():
        value = record.get(name, usual)
        # What is left as it is needs no words; and of the picture to start from not its path.
        if value != usual:
            flat[name.replace("_", " ")] = value["sha256"] if name == "init" else value
    flat["the model's SHA-256"] = record["model_sha256"]
    flat["CLIP's SHA-256"] = record["clip_sha256"]
    for name in ("sampler", "seed", "steps", "eta", "clip_guidance_scale", "width", "height"):
        flat[name.replace("_", " ")] = record[name]
    # Another version of this program may make another picture of the same settings. PyTorch's
    # version and the device only round differently, and to go on elsewhere is what a run is resumed
    # for; index, command and the models' names say nothing that seed, settings and hashes don't.
    flat["the program's version"] = record["version"]
    return flat


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """The first setting in which two records differ: its name and both values, for the user.

    Returns:
        None if their images are made with the same settings.

    Raises:
        KeyError, TypeError, AttributeError: one is no record of this program.
    """
    olds, news = flat_settings(there), flat_settings(here)

    def show(values: dict[str, Any], name: str) -> str:
        return json.dumps(values[name], ensure_ascii=False) if name in values else "nothing"

    for name in {**news, **olds}:
        if name not in olds or name not in news or olds[name] != news[name]:
            return name, show(olds, name), show(news, name)
    return None
