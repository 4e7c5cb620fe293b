"""The ViT family of CLIP, built from the shapes of the tensors that it is to hold."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v_diffusion.compute.blank import on_meta
from v_diffusion.compute.kept import Packed
from v_diffusion.compute.linear import Linear, linear

HEAD_WIDTH = 64


class LayerNorm(nn.LayerNorm):
    """Layer normalisation that computes in fp32, whatever the type of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class Attention(nn.Module):
    """Multi-head self-attention over [B, L, width], with nn.MultiheadAttention's tensor names."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.packed: Packed | None = {}  # of the projection
        self.packed_rest: Packed | None = {}  # of that to keys and values
        self.out_proj = Linear(width, width)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        b, length, width = x.shape
        qkv = linear(x, self.in_proj_weight, self.in_proj_bias, self.packed)
        q, k, v = qkv.view(b, length, 3, -1, HEAD_WIDTH).permute(2, 0, 3, 1, 4)
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        out: Tensor = self.out_proj(heads.transpose(1, 2).reshape(b, length, width))
        return out

    def first(self, x: Tensor) -> Tensor:
        """What the first position, [B, 1, width], gathers from all."""
        b, length, width = x.shape
        weights = torch.split(self.in_proj_weight, [width, 2 * width])
        biases = torch.split(self.in_proj_bias, [width, 2 * width])
        q = linear(x[:, :1], weights[0], biases[0]).view(b, 1, -1, HEAD_WIDTH).transpose(1, 2)
        kv = linear(x, weights[1], biases[1], self.packed_rest)
        k, v = kv.view(b, length, 2, -1, HEAD_WIDTH).permute(2, 0, 3, 1, 4)
        heads = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out_proj(heads.transpose(1, 2).reshape(b, 1, width))
        return out


class ScaledSiLU(torch.autograd.Function):
    """x sigmoid(a x) = silu(a x) / a, whose derivative is silu's at a x: one tensor to keep."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: float) -> Tensor:
        scaled = x * a
        ctx.save_for_backward(scaled)
        return F.silu(scaled).mul_(1 / a)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (scaled,) = ctx.saved_tensors
        return torch.ops.aten.silu_backward(grad, scaled), None


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x): Hendrycks and Gimpel 2016, arXiv 1606.08415, section 2."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = ScaledSiLU.apply(x, 1.702)
        return out


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = Attention(width)
        self.ln_1 = LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", Linear(width, 4 * width))
        self.mlp.add_module("gelu", QuickGELU())
        self.mlp.add_module("c_proj", Linear(4 * width, width))
        self.ln_2 = LayerNorm(width)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        x = x + self.attn(self.ln_1(x), causal)
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out

    def first(self, x: Tensor) -> Tensor:
        """The first position, [B, 1, width], of what `forward` gives, at a sixth of its cost."""
        x = x[:, :1] + self.attn.first(self.ln_1(x))
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Transformer(nn.Module):
    def __init__(self, width: int, layers: int, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.resblocks = nn.ModuleList(Block(width) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.resblocks:
            x = block(x, self.causal)
        return x

    def first(self, x: Tensor) -> Tensor:
        """The first position, [B, width], of what `forward` gives. Not for causal attention."""
        *blocks, last = self.resblocks
        for block in blocks:
            x = block(x, self.causal)
        assert isinstance(last, Block)
        return last.first(x)[:, 0]


class VisionTransformer(nn.Module):
    """Images [B, 3, R, R], normalised as CLIP's preprocessing does, to embeddings [B, D]."""

    def __init__(self, resolution: int, patch: int, width: int, layers: int, output_dim: int):
        super().__init__()
        self.input_resolution = resolution
        self.output_dim = output_dim
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty((resolution // patch) ** 2 + 1, width))
        self.proj = nn.Parameter(torch.empty(width, output_dim))
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.packed: Packed | None = {}  # of conv1
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, layers, causal=False)
        self.ln_post = LayerNorm(width)

    def patches(self, x: Tensor) -> Tensor:
        """`conv1` as what it is, a linear layer on patches: [B, 3, R, R] to [B, L, width]."""
        rows = F.unfold(x, self.conv1.kernel_size, stride=self.conv1.stride).transpose(1, 2)
        return linear(rows, self.conv1.weight.flatten(1), None, self.packed)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        class_token = self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        x = torch.cat([class_token, x], dim=1) + self.positional_embedding.to(x.dtype)
        embed: Tensor = self.ln_post(self.transformer.first(self.ln_pre(x))) @ self.proj
        return embed


class CLIP(nn.Module):
    """Two towers that map images and texts to embeddings of `visual.output_dim` numbers.

    `logit_scale` is the log of the factor that turns cosines into logits.
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
        # It would draw numbers that nobody keeps, which imports PyTorch's compiler: a second.
        embedding: Callable[..., nn.Embedding] = nn.Embedding.from_pretrained
        self.token_embedding = embedding(torch.empty(vocab_size, text_width), freeze=False)
        self.ln_final = LayerNorm(text_width)

    @property
    def dtype(self) -> torch.dtype:
        return self.visual.conv1.weight.dtype

    def encode_image(self, image: Tensor) -> Tensor:
        """Normalised images [B, 3, R, R], R = `visual.input_resolution`, to embeddings [B, D]."""
        embed: Tensor = self.visual(image.to(self.dtype))
        return embed

    def encode_text(self, text: Tensor) -> Tensor:
        """Token ids [B, L], L up to `context_length`, to embeddings [B, D].

        The features are those at the end-of-text token, the highest id of its row. Attention is
        causal, so the padding after the longest text of the batch can't matter and is left out.
        """
        end = text.argmax(dim=-1)
        text = text[:, : int(end.max()) + 1]
        x: Tensor = self.token_embedding(text) + self.positional_embedding[: text.shape[1]]
        x = self.ln_final(self.transformer(x.to(self.dtype)))
        return x[torch.arange(x.shape[0], device=x.device), end] @ self.text_projection

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of each image over the texts, [B, T], and of each text over the images, [T, B]."""
        image_embed = F.normalize(self.encode_image(image), dim=-1)
        text_embed = F.normalize(self.encode_text(text), dim=-1)
        logits = self.logit_scale.exp() * image_embed @ text_embed.T
        return logits, logits.T


def half_precision(model: CLIP) -> CLIP:
    """Makes the weights fp16 in place, but for LayerNorm, which computes in fp32."""
    model.half()
    for module in model.modules():
        if isinstance(module, LayerNorm):
            module.float()
    return model


def count_layers(state_dict: Mapping[str, Tensor], prefix: str) -> int:
    start = prefix + "resblocks."
    return 1 + max(int(k[len(start) :].split(".")[0]) for k in state_dict if k.startswith(start))


def dimensions(state_dict: Mapping[str, Tensor]) -> dict[str, int]:
    """The arguments of `CLIP` that fit the tensors.

    Raises:
        KeyError: a tensor that tells a dimension is missing.
    """
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
    """The model that holds these tensors, in their own dtypes, without a copy.

    Raises:
        KeyError: a tensor that tells a dimension is missing.
        RuntimeError: names or shapes don't fit.
    """
    numbers = ("input_resolution", "context_length", "vocab_size")  # of TorchScript archives
    tensors = {k: v for k, v in state_dict.items() if k not in numbers}
    with on_meta():
        model = CLIP(**dimensions(tensors))
    model.load_state_dict(tensors, strict=True, assign=True)
    return model
