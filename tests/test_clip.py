import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DATA, manifest
from PIL import Image
from standin_weights import state_dict

from CLIP import clip, guidance, tokenizer
from CLIP.model import CLIP, build_model, half_precision
from v_diffusion.weights.cards import CheckpointError
from v_diffusion.weights.tensors import read

TOKENS = json.loads((DATA / "tokens.json").read_text())


@pytest.mark.parametrize("text, ids", TOKENS)
def test_tokens_are_the_originals(text, ids):
    row = clip.tokenize(text)
    assert row.shape == (1, 77) and row.dtype == torch.long
    assert row[0].tolist() == ids + [0] * (77 - len(ids))


def test_vocabulary():
    vocab = tokenizer.vocabulary()
    assert len(vocab) == 49408
    assert (vocab["!"], vocab[tokenizer.START], vocab[tokenizer.END]) == (0, 49406, 49407)


def test_a_text_beyond_the_context_is_an_error_or_cut():
    text = "word " * 100
    with pytest.raises(RuntimeError, match="too long for context length 77"):
        clip.tokenize(text)
    cut = clip.tokenize([text, "word"], truncate=True)
    assert cut.shape == (2, 77)
    assert cut[0, 0] == 49406 and cut[0, -1] == 49407 and (cut[0] != 0).all()
    assert cut[1].count_nonzero() == 3


def test_what_is_kept_of_a_long_text():
    assert clip.kept_text("word " * 75) is None
    assert clip.kept_text("Word " * 76) == " ".join(["word"] * 75)
    assert clip.kept_text("x" * 30 + "caf\u00e9 " * 80).endswith("caf\u00e9 caf\u00e9")


def test_tokens_can_be_read_back():
    for text in ("a red circle", "na\u00efve caf\u00e9", "don 't we 'll", "\u6771\u4eac"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def check_towers(golden, model, name):
    """encode_image and encode_text of the golden inputs."""
    r = model.visual.input_resolution
    torch.manual_seed(31)
    with torch.no_grad():
        image = model.encode_image(torch.randn(2, 3, r, r))
        text = model.encode_text(clip.tokenize([text for text, _ in TOKENS[:4]]))
    for out, expected in ((image, golden[f"{name}/image"]), (text, golden[f"{name}/text"])):
        error = np.abs(out.numpy() - expected).max()
        assert error <= 2e-5 * np.abs(expected).max()


def test_clip_tiny_computes_the_originals_numbers(golden, clip_tiny_tensors):
    model = build_model(clip_tiny_tensors).float()
    assert (model.visual.input_resolution, model.visual.output_dim) == (32, 64)
    assert list(model.state_dict()) == list(clip_tiny_tensors)
    assert model.logit_scale.exp().item() == pytest.approx(100, rel=1e-3)
    check_towers(golden, model, "clip/tiny")


@pytest.mark.slow
def test_clip_vit_b_16_computes_the_originals_numbers(golden, clip_vit_b_16_file):
    model, _ = clip.load(clip_vit_b_16_file, device="cpu")
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes == manifest("clip_vit_b_16")
    assert (model.visual.input_resolution, model.visual.output_dim) == (224, 512)
    check_towers(golden, model, "clip/vit_b_16")


def torchscript_archive(tensors: dict[str, torch.Tensor], path) -> None:
    """A TorchScript archive as CLIP's are published: fp16 tensors by name, and three numbers."""
    numbers = {"input_resolution": 32, "context_length": 77, "vocab_size": 49408}
    root = torch.nn.Module()
    for name, tensor in tensors.items():
        module = root
        *parents, leaf = name.split(".")
        for part in parents:
            if not hasattr(module, part):
                module.add_module(part, torch.nn.Module())
            module = getattr(module, part)
        half = tensor.half() if tensor.is_floating_point() else tensor
        module.register_parameter(leaf, torch.nn.Parameter(half, requires_grad=False))
    for name, number in numbers.items():
        root.register_buffer(name, torch.tensor(number))
    torch.jit.script(root).save(str(path))


def test_both_kinds_of_file_give_the_same_model(golden, clip_tiny_tensors, tmp_path):
    archive, plain = tmp_path / "tiny.pt", tmp_path / "tiny.pth"
    torchscript_archive(clip_tiny_tensors, archive)
    torch.save(clip_tiny_tensors, plain)
    for path in (archive, plain):
        model, _ = clip.load(str(path), device="cpu")
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert not model.training
        check_towers(golden, model, "clip/tiny")


PUBLISHED = {  # as CLIP's arguments, but for the numbers of layers and of tokens
    "ViT-B/32": (512, 224, 32, 768, 512),
    "ViT-B/16": (512, 224, 16, 768, 512),
    "ViT-L/14": (768, 224, 14, 1024, 768),
    "ViT-L/14@336px": (768, 336, 14, 1024, 768),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_archives_of_the_published_structures_are_mapped(tmp_path, name):
    embed_dim, resolution, patch, vision_width, text_width = PUBLISHED[name]
    made = CLIP(
        embed_dim=embed_dim,
        image_resolution=resolution,
        patch=patch,
        vision_width=vision_width,
        vision_layers=1,
        context_length=77,
        vocab_size=9,
        text_width=text_width,
        text_layers=1,
    )
    expected = {key: torch.randn(x.shape).half() for key, x in made.state_dict().items()}
    torchscript_archive(expected, tmp_path / "clip.pt")
    model = build_model(read(tmp_path / "clip.pt"))
    assert (model.visual.input_resolution, model.visual.output_dim) == (resolution, embed_dim)
    found = model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())
    if sys.platform == "linux":
        assert str(tmp_path / "clip.pt") in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"positional_embedding": torch.tensor(1.0)}, "tuple index out of range"),
        ({"visual.positional_embedding": torch.zeros(0)}, "type complex"),
        ({"visual.conv1.weight": torch.zeros(0, 3, 0, 0)}, "modulo by zero"),
        ({"transformer.resblocks.999999999.x": torch.zeros(1)}, "Missing key"),
        ({"transformer.resblocks.x.y": torch.zeros(1)}, "Missing key"),
    ],
)
def test_another_network_is_told_in_one_line(tmp_path, clip_tiny_tensors, changes, why):
    torch.save(clip_tiny_tensors | changes, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="not a CLIP of the ViT family ") as failure:
        clip.load(tmp_path / "a.pth", device="cpu")
    text = str(failure.value)
    assert why in text and text.isprintable() and len(text) < 300 + len(str(tmp_path))


def test_half_precision_leaves_layer_norm_in_fp32(clip_tiny_tensors):
    model = half_precision(build_model(clip_tiny_tensors))
    assert model.visual.ln_pre.weight.dtype == torch.float32
    assert model.ln_final.weight.dtype == torch.float32
    assert model.visual.conv1.weight.dtype == torch.float16
    assert model.visual.proj.dtype == torch.float16
    full = build_model(clip_tiny_tensors).float()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        half_image, image = model.encode_image(x).float(), full.encode_image(x)
        tokens = clip.tokenize(["a red circle", ""])
        half_text, text = model.encode_text(tokens).float(), full.encode_text(tokens)
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(half_image, image).min() > 0.9999
    assert cosine(half_text, text).min() > 0.9999


def test_logits_are_scaled_cosines(clip_tiny_tensors):
    model = build_model(clip_tiny_tensors).float()
    image, text = torch.randn(3, 3, 32, 32), clip.tokenize(["a", "b"])
    with torch.no_grad():
        per_image, per_text = model(image, text)
        a, b = model.encode_image(image), model.encode_text(text)
    cosines = torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=-1)
    torch.testing.assert_close(per_image, cosines * model.logit_scale.exp(), atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(per_text, per_image.T)


def test_padding_to_another_length_changes_nothing(clip_tiny_tensors):
    model = build_model(clip_tiny_tensors).float()
    with torch.no_grad():
        long = model.encode_text(clip.tokenize("a red circle"))
        short = model.encode_text(clip.tokenize("a red circle", context_length=6))
    torch.testing.assert_close(long, short)


def test_preprocessing_takes_the_normalised_centre(clip_tiny_tensors, tmp_path):
    torch.save(clip_tiny_tensors, tmp_path / "tiny.pth")
    _, preprocess = clip.load(tmp_path / "tiny.pth", device="cpu")
    image = Image.new("L", (100, 50), 255)
    image.paste(0, (0, 0, 20, 50))  # beyond the centre square
    x = preprocess(image)
    assert x.shape == (3, 32, 32)
    expected = (1 - torch.tensor(guidance.MEAN)) / torch.tensor(guidance.STD)
    torch.testing.assert_close(x[:, 16, 16], expected, atol=1e-4, rtol=1e-4)
    assert (x[0] == x[0, 0, 0]).all()


def test_available_models():
    published = {"ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336px"}
    assert set(clip.available_models()) == published | {"emoji_64_clip"}


def test_other_dimensions_of_the_family_are_read_from_the_shapes():
    shapes = manifest("clip_vit_b_16")
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    model = build_model(tensors)
    assert len(model.visual.transformer.resblocks) == len(model.transformer.resblocks) == 12
    assert model.context_length == 77 and model.vocab_size == 49408
    assert state_dict({"logit_scale": []})["logit_scale"].item() == pytest.approx(4.6052, abs=1e-4)
