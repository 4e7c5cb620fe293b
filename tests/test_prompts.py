import json

import pytest
import torch
from conftest import DATA

import clip_sample
from CLIP import prompts

GOLDEN = json.loads((DATA / "parse_prompt.json").read_text())


@pytest.mark.parametrize("argument, text, weight", GOLDEN)
def test_prompts_are_parsed_as_the_original_does(argument, text, weight):
    assert clip_sample.parse_prompt(argument) == (text, weight)


@pytest.mark.parametrize(
    "argument, text, weight",
    [
        ("a:b:2", "a:b", 2.0),
        ("Dune: part two", "Dune: part two", 1.0),
        ("C:\\img.png", "C:\\img.png", 1.0),
        ("C:\\img.png:-0.5", "C:\\img.png", -0.5),
        ("http://127.0.0.1:8000/a.png", "http://127.0.0.1:8000/a.png", 1.0),
        ("http://127.0.0.1:8000/a.png:0.5", "http://127.0.0.1:8000/a.png", 0.5),
        ("http://127.0.0.1:8931", "http://127.0.0.1:8931", 1.0),
        ("HTTPS://u:1@[::1]:8931", "HTTPS://u:1@[::1]:8931", 1.0),
        ("http://127.0.0.1:8931:1", "http://127.0.0.1:8931", 1.0),
        ("http://127.0.0.1:8931:-2", "http://127.0.0.1:8931", -2.0),
        ("http://h.org:0.5", "http://h.org", 0.5),
        ("http://h.org/:2", "http://h.org/", 2.0),
        ("time 12:30", "time 12:30", 1.0),
        ("time 12:30:1", "time 12:30", 1.0),
        ("time 12:30:15", "time 12:30", 15.0),
        ("time 12:10:15", "time 12:10", 15.0),
        ("7:05 ", "7:05 ", 1.0),
        ("two\nlines, 23:59", "two\nlines, 23:59", 1.0),
        ("time 24:00", "time 24", 0.0),
        ("time 12:60", "time 12", 60.0),
        ("time 12:5", "time 12", 5.0),
        ("time 12:30.0", "time 12", 30.0),
        ("mp3:10", "mp3", 10.0),
        ("img/12:30", "img/12", 30.0),
        ("x:nan", "x:nan", 1.0),
        ("x:inf", "x:inf", 1.0),
        ("x:1e400", "x:1e400", 1.0),
        ("x:", "x:", 1.0),
        ("x:1e-2", "x", 0.01),
        ("x:+.5", "x", 0.5),
        ("2", "2", 1.0),
        ("", "", 1.0),
    ],
)
def test_only_a_finite_number_after_the_last_colon_is_a_weight(argument, text, weight):
    assert clip_sample.parse_prompt(argument) == (text, weight)


def test_names_that_scripts_import():
    from CLIP import guidance

    assert clip_sample.MakeCutouts is guidance.MakeCutouts
    assert clip_sample.spherical_dist_loss is guidance.spherical_dist_loss
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        clip_sample.nothing  # noqa: B018


def test_the_target_is_the_normalised_weighted_sum():
    a, b = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    out = prompts.combine([(a, 1.0), (b, 3.0)])
    torch.testing.assert_close(out, torch.tensor([[0.5**0.5, 0.5**0.5]]))


def test_weights_are_over_the_absolute_value_of_their_sum():
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    out = prompts.combine([(a, -4.0), (b, 1.0)])
    torch.testing.assert_close(out, torch.tensor([[-4.0, 1.0]]) / 17**0.5)


def test_a_prompts_weight_is_shared_out_among_its_cutouts():
    text, image = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]).expand(16, -1)
    out = prompts.combine([(text, 1.0), (image, 1.0)])
    torch.testing.assert_close(out, torch.tensor([[0.5**0.5, 0.5**0.5]]))


@pytest.mark.parametrize("weights", [[1.0, -1.0], [0.0, 0.0], [1.0, -1.0005]])
def test_weights_that_sum_to_0_are_an_error(weights):
    with pytest.raises(ValueError, match="sum to 0"):
        prompts.combine([(torch.ones(1, 2), weight) for weight in weights])


@pytest.mark.parametrize("weights", [[1e39, 1.0], [3e38, 3e38]])
def test_weights_beyond_fp32_are_an_error(weights):
    with pytest.raises(ValueError, match="too large"):
        prompts.combine([(torch.ones(1, 2), weight) for weight in weights])
