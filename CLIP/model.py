"""CLIP of the ViT family: Radford et al. 2021, arXiv 2103.00020."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

HEAD_WIDTH = 64


class Unfilled(TorchFunctionMode):
    """Mode that skips `torch.nn.init`, which on "meta" imports PyTorch's compiler for a second."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def on_meta() -> Iterator[None]:
    """Build models on "meta", without numbers, to be filled from a file."""
    with torch.device("meta"), Unfilled():
        yield


class LayerNorm(nn.LayerNorm):
    """Layer normalisation in the dtype of its weights, fp32 in a model of fp16."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class Attention(nn.Module):
    """Multi-head self-attention over [L, B, width] with the tensors of nn.MultiheadAttention."""

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = qkv.view(*x.shape[:2], 3, -1, HEAD_WIDTH).permute(2, 1, 3, 0, 4)
        if x.dtype == torch.bfloat16 and x.device.type == "cpu" and not self.causal:
            # PyTorch's own way back takes twice as long.
            heads = (q * HEAD_WIDTH**-0.5 @ k.transpose(-1, -2)).softmax(-1) @ v
        else:
            heads = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out_proj(heads.permute(2, 0, 1, 3).reshape(x.shape))


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x): Hendrycks and Gimpel 2016, arXiv 1606.08415, section 2."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """Pre-norm transformer block, from [L, B, width] to the same."""

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.attn = Attention(width, causal)
        self.ln_1 = LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", QuickGELU())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))
        self.ln_2 = LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """Sequence of blocks, from [L, B, width] to the same."""

    def __init__(self, width: int, layers: int, causal: bool) -> None:
        super().__init__()
        self.resblocks = nn.Sequential(*(Block(width, causal) for _ in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        return self.resblocks(x)


class VisionTransformer(nn.Module):
    """Image tower, from normalised images [B, 3, R, R] to embeddings [B, D]."""

    def __init__(self, resolution: int, patch: int, width: int, layers: int, output_dim: int):
        super().__init__()
        self.input_resolution = resolution
        self.output_dim = output_dim
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty((resolution // patch) ** 2 + 1, width))
        self.proj = nn.Parameter(torch.empty(width, output_dim))
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, layers, causal=False)
        self.ln_post = LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.conv1(x).flatten(2).permute(2, 0, 1)
        class_token = self.class_embedding.to(x.dtype).expand(1, len(x), -1)
        tokens = torch.cat([class_token, patches])
        tokens = self.ln_pre(tokens + self.positional_embedding[:, None].to(x.dtype))
        return self.ln_post(self.transformer(tokens)[0]) @ self.proj


class CLIP(nn.Module):
    """Two towers that embed images and texts in one space of `visual.output_dim` dimensions.

    `logit_scale` is the log of the factor from cosines to logits.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        image_resolution: int,
        patch: int,
        vision_width: int,
        vision_layers: int,
        context_length: int,
        vocab_size: int,
        text_width: int,
        text_layers: int,
    ) -> None:
        super().__init__()
        self.context_length = context_length
        self.vocab_size = vocab_size
        self.positional_embedding = nn.Parameter(torch.empty(context_length, text_width))
        self.text_projection = nn.Parameter(torch.empty(text_width, embed_dim))
        self.logit_scale = nn.Parameter(torch.empty([]))
        self.visual = VisionTransformer(
            image_resolution, patch, vision_width, vision_layers, embed_dim
        )
        self.transformer = Transformer(text_width, text_layers, causal=True)
        self.token_embedding = nn.Embedding(vocab_size, text_width)
        self.ln_final = LayerNorm(text_width)

    @property
    def dtype(self) -> torch.dtype:
        return self.text_projection.dtype

    def encode_image(self, image: Tensor) -> Tensor:
        """Return the embeddings [B, D] of normalised images [B, 3, R, R].

        R is `visual.input_resolution`.
        """
        return self.visual(image.to(self.dtype))

    def encode_text(self, text: Tensor) -> Tensor:
        """Return the embeddings [B, D] of token ids [B, L], L up to `context_length`.

        The embedding is that of the end-of-text token, the highest id of its row. As attention is
        causal, the padding after it has no effect.
        """
        x: Tensor = self.token_embedding(text) + self.positional_embedding[: text.shape[1]]
        x = self.transformer(x.to(self.dtype).transpose(0, 1)).transpose(0, 1)
        rows = torch.arange(len(text), device=text.device)
        return self.ln_final(x[rows, text.argmax(dim=-1)]) @ self.text_projection

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of B images for T texts, [B, T], and of the texts, [T, B]."""
        image_embed = F.normalize(self.encode_image(image), dim=-1)
        text_embed = F.normalize(self.encode_text(text), dim=-1)
        logits = self.logit_scale.exp() * image_embed @ text_embed.T
        return logits, logits.T


def half_precision(model: CLIP, dtype: torch.dtype = torch.float16) -> CLIP:
    """Convert the weights in place, by default to fp16, but those of LayerNorm to fp32."""
    model.to(dtype)
    for module in model.modules():
        if isinstance(module, LayerNorm):
            module.float()
    return model


def count_layers(state_dict: Mapping[str, Tensor], prefix: str) -> int:
    """Count the blocks of the transformer whose tensors' names begin with a prefix."""
    start = prefix + "resblocks."
    return len({k[len(start) :].split(".")[0] for k in state_dict if k.startswith(start)})


def dimensions(state_dict: Mapping[str, Tensor]) -> dict[str, int]:
    """Infer the arguments of `CLIP` from the shapes of its tensors; KeyError if one is missing."""
    conv1 = state_dict["visual.conv1.weight"]
    patches = state_dict["visual.positional_embedding"].shape[0] - 1
    vocab_size, text_width = state_dict["token_embedding.weight"].shape
    return {
        "embed_dim": state_dict["text_projection"].shape[1],
        "image_resolution": round(patches**0.5) * conv1.shape[-1],
        "patch": conv1.shape[-1],
        "vision_width": conv1.shape[0],
        "vision_layers": count_layers(state_dict, "visual.transformer."),
        "context_length": state_dict["positional_embedding"].shape[0],
        "vocab_size": vocab_size,
        "text_width": text_width,
        "text_layers": count_layers(state_dict, "transformer."),
    }


def build_model(state_dict: Mapping[str, Tensor]) -> CLIP:
    """Build the model of these tensors, in their own dtypes and without copying them.

    Raises:
        KeyError: a tensor that `dimensions` needs is missing.
        RuntimeError: the tensors' names or shapes don't fit the model.
    """
    numbers = ("input_resolution", "context_length", "vocab_size")  # of TorchScript archives
    tensors = {k: v for k, v in state_dict.items() if k not in numbers}
    with on_meta():
        model = CLIP(**dimensions(tensors))
    model.load_state_dict(tensors, strict=True, assign=True)
    return model
