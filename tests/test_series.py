"""The names of very many images."""

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from v_diffusion.images.names import BadOutput
from v_diffusion.images.series import FEW, RISES, Series, Taken
from v_diffusion.job.job import Job
from v_diffusion.run.ranks import Rank
from v_diffusion.run.request import Order
from v_diffusion.run.tasks import in_batches, in_parts, single

MANY = 10**7
JOB = Job("a", model="emoji_64", seed=5)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_texts_of_numbers_rise_by_length_and_alphabet():
    """Every format of which that is said, and numbers around all places where it could break."""
    near = [base**k + j for base in (2, 8, 10, 16) for k in range(1, 12) for j in (-1, 0, 1)]
    numbers = sorted({*range(1100), *near, 2**64 - 1})
    parts = (
        ["", "0>", "0=", "-", "+", " "],
        ["", "#"],
        ["", "0"],
        ["", "1", "6", "12"],
        ["", ",", "_"],
    )
    checked = 0
    for spec in map("".join, itertools.product(*parts, ["", "b", "d", "o", "x", "X"])):
        assert RISES.fullmatch(spec)
        try:
            texts = [format(number, spec) for number in numbers]
        except ValueError:  # "," with "x"
            continue
        keys = [(len(text), text) for text in texts]
        assert keys == sorted(set(keys)), spec
        checked += 1
    assert checked > 1000


@pytest.mark.parametrize("spec", ["0<3", "<03", "1>3", "0^4", "*>3", "a>3x", "/>3", ".>3"])
def test_of_other_formats_it_is_not_said(spec):
    assert not Series(f"a{{i:{spec}}}.png", 5, 0, 1).rises


@pytest.mark.parametrize("pattern", ["x.png", "a{i}/../x.png", "{i}//x.png", "{i}/./x.png"])
def test_nor_of_other_patterns(pattern):
    assert not Series(pattern, 5, 0, 1).rises


@pytest.mark.parametrize("pattern", ["out_{i:05}.png", "../{seed:x}.webp", "a/b/{i}{seed}/{i}.png"])
def test_the_number_of_a_name(folder, pattern):
    many = Series(pattern, MANY, seed=7, first=3)
    assert many.rises
    for number in (3, 4, 99, 4711, 99_999, 100_000, MANY + 2):
        assert many.find(many.real(number)) == number
        assert many.real(number) == os.path.realpath(many.name(number))
        assert many.is_plain(number, many.real(number))
    for number in (2, MANY + 3):  # before and behind
        assert many.find(os.path.realpath(many.name(number))) is None
    assert many.find(os.path.realpath("other.png")) is None
    assert many.find("/other.png") is None


def test_a_prompt_in_names_and_a_home(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    many = Series("~/{{{prompt}}}/{prompt}_{i}.png", MANY, seed=7, first=3, prompt="a_fox")
    assert many.rises and many.path(4) == folder / "{a_fox}" / "a_fox_4.png"
    assert many.real(4) == os.path.realpath(many.path(4)) and many.find(many.real(4)) == 4
    assert not Series("{prompt}.png", 5, 0, 1, "a").rises
    assert not Series("~{i}/a.png", 5, 0, 1).rises
    taken = Taken()
    taken.places("{prompt}_{i}.png", MANY, 0, 0, "a_fox")
    taken.places("{prompt}_{i}.png", MANY, 0, 0, "a_cat")
    with pytest.raises(BadOutput, match="images 5 and 0 would both be ~?.*a_fox_5.png"):
        taken.places("~/{prompt}_5.png", 1, 0, 0, "a_fox")
    orders = [Order(Job("a fox", model="emoji_64"), FEW + 1, "{prompt}_{i}.png")]
    assert next(single(orders, pytest.fail)).path == Path("a_fox_0.png")


CLASH = "put {i} or {seed} in it"


@pytest.mark.parametrize(
    "pattern, message",
    [
        ("x.png", f"images 0 and 1 would both be x.png; {CLASH}"),
        ("a{i}/../x.png", f"images 0 and 1 would both be a1/../x.png; {CLASH}"),
        ("{i:0<9}.png", f"images 1 and 10 would both be 100000000.png; {CLASH}"),
        ("{i:1>3}.png", f"images 0 and 10 would both be 110.png; {CLASH}"),
        ("{i}.gif", "its end says no format; there are .png, .jpg, .jpeg, .webp"),
    ],
)
def test_two_of_very_many_that_would_be_one(pattern, message):
    refused = []
    orders = [Order(JOB, MANY, pattern)]
    assert list(single(orders, lambda line, error: refused.append(str(error)))) == []
    assert refused == [f"--output: {pattern}: {message}"]


def test_very_many_are_named_as_they_come(monkeypatch):
    named = []
    name = Series.name
    monkeypatch.setattr(Series, "name", lambda self, i: named.append(i) or name(self, i))
    tasks = single([Order(JOB, MANY, "{seed}/{i:05}.png")], None)
    parts = in_parts(in_batches(tasks, 7), FEW)
    first = next(parts)
    assert [task.path for task in first[0]][:2] == [Path("5/00000.png"), Path("6/00001.png")]
    assert [task.job.seed for task in first[1]][0] == 5 + 7
    assert FEW <= sum(map(len, first)) < FEW + 7
    assert len(named) < 5 * FEW
    assert next(parts)[0][0].index == sum(map(len, first))


def taken(*orders: tuple[str, int, int]) -> str:
    """What is said of the last of orders, each of a pattern, a number of images and a seed."""
    names, first = Taken(), 0
    for pattern, n, seed in orders[:-1]:
        names.places(pattern, n, seed, first)
        first += n
    with pytest.raises(BadOutput) as caught:
        names.places(*orders[-1], first)
    return str(caught.value).partition(": images ")[2].partition(";")[0]


@pytest.mark.parametrize(
    "orders, message",
    [
        ([("{seed}.png", MANY, 0), ("{seed}.png", MANY, MANY - 5)],
         "9999995 and 10000000 would both be 9999995.png"),
        ([("{i}.png", MANY, 0), ("./8.png", 1, 0)], "8 and 10000000 would both be 8.png"),
        ([("9.png", 1, 0), ("{seed}.png", MANY, 0)], "0 and 10 would both be 9.png"),
        ([("a{i}.png", MANY, 0), ("{seed}.png", MANY, 0), ("x/../9.png", 1, 0)],
         "10000009 and 20000000 would both be x/../9.png"),
        ([("a{seed}.png", 2000, 1), ("a{i}.png", 2000, 3)],
         "1999 and 2000 would both be a2000.png"),
    ],
)  # fmt: skip
def test_orders_that_have_a_name_in_common(orders, message):
    assert taken(*orders) == message


def test_orders_that_have_none():
    names = Taken()
    names.places("9.png", 1, 0, 0)
    names.places("{i:05}.png", MANY, 0, 1)
    names.places("{i:05}.png", MANY, 0, 1 + MANY)
    names.places("{seed:05}.jpg", MANY, 0, 1 + 2 * MANY)
    names.places("a/{seed:05}.png", MANY, 0, 1 + 3 * MANY)
    names.places("a/{seed:05}.png", MANY, MANY, 1 + 4 * MANY)
    names.places("8.png", 1, 0, 1 + 5 * MANY)


def test_a_link_to_another_images_folder_is_found_when_it_is_come_to(folder):
    (folder / "3").mkdir()
    (folder / "5").symlink_to("3")
    refused = []
    tasks = single([Order(JOB, MANY, "{i}/x.png")], lambda line, error: refused.append(str(error)))
    assert [task.index for task in tasks] == [0, 1, 2, 3, 4]
    why = f"images 3 and 5 would both be 5/x.png; {CLASH}"
    assert refused == [f"--output: {{i}}/x.png: {why}"]
    (folder / "5").unlink()
    (folder / "5").symlink_to(folder / "elsewhere")
    (folder / "7").symlink_to("5")
    refused.clear()
    tasks = single([Order(JOB, MANY, "{i}/x.png")], lambda line, error: refused.append(str(error)))
    assert [task.index for task in tasks] == [0, 1, 2, 3, 4, 5, 6]
    assert "images 5 and 7 would both be 7/x.png" in refused[0]


@pytest.mark.parametrize("n, size", [(10, 3), (9, 3), (1, 4), (100, 1), (7, 100)])
def test_a_ranks_share_is_counted_without_going_through_it(n, size):
    batches = [min(size, n - i) for i in range(0, n, size)]
    for rank in (Rank(i, 3) for i in range(3)):
        assert rank.count([n], size) == sum(rank.share(batches))
    assert Rank().count([n, n], size) == 2 * n and Rank(0, 2).count([n, n], size) is None


@pytest.mark.skipif(os.name != "posix", reason="there is no Ctrl-C to send")
@pytest.mark.parametrize("pattern", ["{seed}.png", "{i}/{seed:x}.png"])
def test_the_first_of_ten_million(folder, pattern):
    """It comes, and in no more memory than that of a thousand."""
    words = ["a", "--model", "emoji_64", "--steps", "1", "-cs", "0", "-n", str(MANY), "-o", pattern]
    command = [sys.executable, ROOT / "clip_sample.py", *words]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline().strip() == pattern.format(i=0, seed=0)
        status = Path(f"/proc/{process.pid}/status")
        peak = status.read_text().split("RssAnon:")[1].split()[0] if status.exists() else "0"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=600)
    assert process.returncode == 130
    assert int(peak) < 1_500_000  # kB; ten million paths would take more than that alone


def test_mistakes_of_very_many_are_told_before_anything_is_loaded(clip_sample, folder):
    words = ("a", "--model", "emoji_64", "-n", str(MANY))
    for more, message in (
        (("-o", "x.png"), "images 0 and 1 would both be x.png"),
        (("-o", "{i:0<9}.png"), "images 1 and 10 would both be 100000000.png"),
        (("--images", "none.png"), "image prompt none.png: there is no such file"),
        (("--checkpoint", "none"), "--checkpoint: none is not a file"),
        (("--seed", str(2**64 - 5)), "the last image's seed would be beyond"),
    ):
        done = clip_sample(*words, *more)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1 and message in done.stderr
    assert os.listdir() == []
