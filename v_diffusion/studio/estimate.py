"""How much memory a batch takes, before it takes it, and how much there is."""

from __future__ import annotations

import weakref
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from CLIP import guidance
from diffusion import noise
from diffusion.guidance import make_cfg_model_fn

from ..job.job import Job
from ..shell.program import UserError
from ..weights import store
from ..weights.download import human_size
from .available import available
from .sample import Aim, Models, cutouts_of

# Kernels have scratch memory of their own, and what is freed doesn't all fit again. Measured with
# emoji_64, 64 and 256 pictures at a time, the peak grew by 0.90 to 1.10 times the tensors guided
# and by 1.03 to 1.56 times unguided: compiled blocks keep less than these count. What fits is not
# to be refused.
BESIDE_GUIDED, BESIDE = 0.9, 1.0
# No model takes more bytes than this for a pixel and the square root of its number of weights: at
# most 4.6, guided by a CLIP that is as large, of the published ones. What fits so is not looked at.
GENEROUS = 32
OWN = 6  # tensors of a batch's own size that a sampler keeps, at least


class Tensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that are made while it is on, and live at the same time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.peak = 0
        self._seen: set[int] = set()

    def _gone(self, key: int, size: int) -> None:
        self.bytes -= size
        self._seen.discard(key)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in self._seen:
                    self._seen.add(key)
                    self.bytes += storage.nbytes()
                    self.peak = max(self.peak, self.bytes)
                    weakref.finalize(storage, self._gone, key, storage.nbytes())
        return out


class Attention(TorchFunctionMode):
    """Attention whose weights are nowhere as a whole, as devices compute it; those of tensors
    without numbers would be.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        q, k, v = args
        return q + k.mean(-2, keepdim=True) + v.mean(-2, keepdim=True)


class Evaluation(nn.Module):
    """What a sampler asks at each step, of a model and, where it guides, of CLIP."""

    def __init__(
        self,
        job: Job,
        models: Models,
        aim: Aim,
        cutouts_at_once: int | None,
        rows_at_once: int | None,
    ) -> None:
        super().__init__()
        self.model, self.clip = models
        self.job, self.aim = job, aim
        self.cutouts_at_once, self.rows_at_once = cutouts_at_once, rows_at_once

    def forward(self, n: int) -> Tensor:
        """An evaluation for n pictures of a batch like that which it was made for."""
        job, embeds, weights = self.job, self.aim.embeds, self.aim.weights
        kind: dict[str, Any] = {"dtype": next(self.model.parameters()).dtype, "device": "meta"}
        width, height = job.size
        x, t = torch.empty(n, 3, height, width, **kind), torch.empty(n, **kind)
        rows: dict[str, Any] = {}
        if embeds is not None:
            many = n * (1 if weights is None else len(weights))
            rows["clip_embed"] = torch.empty(many, embeds.shape[-1], **kind)
        if weights is not None:
            some = torch.empty(len(weights), n, **kind)
            return make_cfg_model_fn(self.model, some, self.rows_at_once)(x, t, **rows)
        known = rows if hasattr(self.model, "embed_dim") else {}
        if not job.clip_guidance_scale or self.clip is None or embeds is None:
            v: Tensor = self.model(x, t, **known)
            return v
        target = torch.empty(n, embeds.shape[-1], device="meta")
        streams = noise.streams(range(n))
        cutouts = cutouts_of(job, self.clip)
        cond_fn = guidance.make_cond_fn(
            self.clip, target, 1.0, streams, cutouts, self.cutouts_at_once
        )
        with torch.enable_grad():
            x.requires_grad_()
            v = self.model(x, t, **known)
            return cond_fn(x, t, (x * t[0] - v * t[0]).float())


def peak(evaluation: Evaluation, n: int) -> int:
    """The bytes of all tensors that an evaluation for n pictures has at its height.

    It is gone through with tensors that have a size and nothing else.
    """
    named = [*evaluation.named_parameters(), *evaluation.named_buffers()]
    sizes = {name: torch.empty_like(tensor, device="meta") for name, tensor in named}
    counted = Tensors()
    with torch.no_grad(), Attention(), counted:
        functional_call(evaluation, sizes, (n,))
    return counted.peak


def check_batch(
    n: int,
    job: Job,
    models: Models,
    aim: Aim,
    cutouts_at_once: int | None = None,
    rows_at_once: int | None = None,
    spare: float = 0,
) -> float:
    """How many bytes a batch of n pictures takes, roughly and rather too few; 0 for what is little.

    Args:
        spare: what this process has asked for already and not in use.

    Raises:
        UserError: there aren't so many; says how many pictures fit.
    """
    card = store.cards()[job.model]
    if n == 1 and max(job.size) <= card.side:  # what the model is made for
        return 0
    device = next(models.model.parameters()).device
    free = available(device)
    pixels = job.size[0] * job.size[1]
    weights = sum(p.numel() for m in models if m is not None for p in m.parameters())
    most = GENEROUS * n * pixels * weights**0.5 * max(1, job.cutn or 0, 16) / 16
    if free is None or most < free:
        return 0
    evaluation = Evaluation(job, models, aim, cutouts_at_once, rows_at_once)
    try:
        two, four = (peak(evaluation, few) for few in (2, 4))
    except (RuntimeError, NotImplementedError):  # what a kernel has no sizes for is not known
        return 0
    beside = BESIDE_GUIDED if job.clip_guidance_scale and models.clip is not None else BESIDE
    each = (four - two) / 2 * (beside if device.type == "cpu" else 1)
    kinds = 1 if aim.weights is None else len(aim.weights)
    own = 4 * 3 * pixels * (OWN + (kinds if kinds > 1 else 0))
    together = n if rows_at_once is None else min(n, -(-rows_at_once // kinds))
    need = two + (together - 2) * each + n * own
    if need <= free + spare:
        return need
    fits = max(1, int((free + spare - two + 2 * each) / (each + own)))
    text = f"it would take about {human_size(int(need))} of memory, and {human_size(int(free))}"
    if n == 1:
        raise UserError(f"--size {job.size[0]} {job.size[1]}: {text} are free; take a smaller one")
    raise UserError(f"--batch-size {n}: {text} are free; take --batch-size {fits}, or less")
