"""Names of files: patterns, their fields, and orders that would share a name."""

import itertools
import os
import re
import signal
from pathlib import Path

import pytest
import script

from v_diffusion.images import names as naming
from v_diffusion.images.names import NUMBER, Names, check_pattern, label, path_of, slug
from v_diffusion.job.job import Job
from v_diffusion.shell.errors import UserError

MANY = 10**7
CLASH = "put {i} or {seed} in it"
FORMAT = "{i} can't have this format; write {i} or {i:05}"
SUFFIXES = "the suffix names no image format; use .png, .jpg, .jpeg or .webp"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The test's own folder, where it runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def paths(pattern: str, n: int = 2, seed: int = 7, prompt: str = "") -> list[Path]:
    check_pattern(pattern, n)
    return [path_of(pattern, i=k, seed=seed + k, prompt=prompt) for k in range(n)]


def message(pattern: str, n: int = 2) -> str:
    with pytest.raises(UserError) as caught:
        for path in paths(pattern, n):
            naming.check_place(path)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("out_{i:05}.png", ["out_00000.png", "out_00001.png", "out_00002.png"]),
        ("a/{seed}.webp", ["a/7.webp", "a/8.webp", "a/9.webp"]),
        ("{{{i:x}}}_{seed:+}.JPG", ["{0}_+7.JPG", "{1}_+8.JPG", "{2}_+9.JPG"]),
        ("{i:03}.jpeg", ["000.jpeg", "001.jpeg", "002.jpeg"]),
        ("{i}/x.png", ["0/x.png", "1/x.png", "2/x.png"]),
        ("{prompt}/{seed}_{i}.png", ["fox/7_0.png", "fox/8_1.png", "fox/9_2.png"]),
    ],
)
def test_paths(pattern, expected):
    assert paths(pattern, 3, prompt="fox") == [Path(path) for path in expected]


def test_one_image_needs_no_field():
    assert paths("x.png", 1) == [Path("x.png")]


def test_a_home(monkeypatch, folder):
    monkeypatch.setenv("HOME", str(folder))
    assert paths("~/{i}.png", 1) == [folder / "0.png"]


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("{n}.png", "there is no field {n}; use {i}, {seed} or {prompt}"),
        ("{}.png", "there is no field {}; use {i}, {seed} or {prompt}"),
        ("{i.real}.png", "there is no field {i.real}; use {i}, {seed} or {prompt}"),
        ("{seed[0]}.png", "there is no field {seed[0]}; use {i}, {seed} or {prompt}"),
        ("{n}/../{i}.png", "there is no field {n}; use {i}, {seed} or {prompt}"),
        ("{i.png", "unmatched brace; write {{ or }} for a literal one"),
        ("i}.png", "unmatched brace; write {{ or }} for a literal one"),
        ("{i:.2f}.png", FORMAT),
        ("{i:c}.png", FORMAT),
        ("{i:0<9}.png", FORMAT),
        ("{i!r}.png", FORMAT),
        ("{i:{seed}}.png", FORMAT),
        ("{i:09999999999}.png", FORMAT),
        ("{i:,x}.png", FORMAT),
        ("{prompt:9}.png", "{prompt} can't have this format; write {prompt}"),
        ("{prompt!r}.png", "{prompt} can't have this format; write {prompt}"),
        ("{i}.gif", SUFFIXES),
        ("{i}", SUFFIXES),
        ("a{i}/.png", SUFFIXES),
        ("{i}.png/", SUFFIXES),
        ("{i}\0.png", "it has a character that no file name can have; remove it"),
        ("{i}\ud800.png", "it has a character that no file name can have; remove it"),
        ("{i}.preview.png",
         "names that end in .preview.png are reserved for previews; give another name"),
        ("x.png", f"all 2 images would have this name; {CLASH}"),
        ("{prompt}.png", f"all 2 images would have this name; {CLASH}"),
        ("a{i}/../x.png", f"all 2 images would have this name; {CLASH}"),
    ],
)  # fmt: skip
def test_bad_patterns(pattern, expected):
    shown = pattern if pattern.isprintable() else repr(pattern)
    assert message(pattern) == f"--output: {shown}: {expected}"


def test_names_of_one_image():
    assert message("", 1) == f"--output: '': {SUFFIXES}"
    assert message("a\nb", 1) == rf"--output: 'a\nb': {SUFFIXES}"


@pytest.mark.parametrize("name", ["pictures", "pictures/", "1.png"])
def test_a_pattern_that_is_a_folder(folder, name):
    (folder / name).mkdir()
    inside = f"{name.rstrip('/')}/{{i:05}}.png"
    why = f"it is a folder; name a file in it, as in {inside}"
    assert message(name, 1) == message(name, 2) == f"--output: {name}: {why}"


def test_a_pattern_that_names_a_pipe(folder):
    os.mkfifo(folder / "0.png")
    assert message("{i}.png") == "--output: 0.png: it is not a regular file; give another name"


def test_no_format_gives_two_numbers_one_text():
    near = [base**k + j for base in (2, 8, 10, 16) for k in range(1, 12) for j in (-1, 0, 1)]
    numbers = sorted({*range(1100), *near, 2**64 - 1})
    parts = (["", "+", " ", "-"], ["", "#"], ["", "0"], ["", "6"], ["", *"bdoxX,_"])
    checked = 0
    for spec in map("".join, itertools.product(*parts)):
        if re.fullmatch(NUMBER, spec):
            assert len({format(number, spec) for number in numbers}) == len(numbers), spec
            checked += 1
    assert checked > 100


def clash(*orders: tuple[str, int, int]) -> str:
    """What is said of the last of orders, each of a pattern, a number of images and a seed."""
    names, first = Names(), 0
    for pattern, n, seed in orders[:-1]:
        names.add(pattern, n=n, first=first, seed=seed, prompt="")
        first += n
    pattern, n, seed = orders[-1]
    with pytest.raises(UserError, match=re.escape(CLASH)) as caught:
        names.add(pattern, n=n, first=first, seed=seed, prompt="")
    names.add("other.png", n=1, first=0, seed=0, prompt="")  # the others are as they were
    return str(caught.value).partition(": images ")[2].partition(";")[0]


@pytest.mark.parametrize(
    "orders, expected",
    [
        ([("x.png", 1, 0), ("x.png", 1, 0)], "0 and 1 would both be x.png"),
        ([("{seed}.png", 10, 0), ("{seed}.png", 10, 9)], "9 and 10 would both be 9.png"),
        ([("{i}.png", 10, 0), ("./8.png", 1, 0)], "8 and 10 would both be 8.png"),
        ([("9.png", 1, 0), ("{seed}.png", 20, 0)], "0 and 10 would both be 9.png"),
        ([("a{i}.png", 9, 0), ("{seed}.png", 9, 0), ("x/../5.png", 1, 0)],
         "14 and 18 would both be x/../5.png"),
        ([("3/x.png", 1, 0), ("link/x.png", 1, 0)], "0 and 1 would both be link/x.png"),
    ],
)  # fmt: skip
def test_orders_that_share_a_name(folder, orders, expected):
    (folder / "3").mkdir()
    (folder / "link").symlink_to("3")
    assert clash(*orders) == expected


def test_orders_that_share_none():
    names, first = Names(), 0
    for pattern in ("9.png", "{i:05}.png", "{i:05}.png", "{seed}.jpg", "a/{seed}.jpg", "8.png"):
        n = 100 if "{" in pattern else 1
        names.add(pattern, n=n, first=first, seed=0, prompt="")
        first += n


def test_names_of_one_order_are_not_listed(monkeypatch):
    called = []
    monkeypatch.setattr(naming, "check_name", lambda *args: called.append(args))
    Names().add("{i}.png", n=MANY, first=0, seed=0, prompt="")
    assert len(called) < 10


def test_mistakes_of_very_many_are_told_before_anything_is_loaded(clip_sample, folder):
    words = ("a", "--model", "emoji_64", "-n", str(MANY))
    for more, expected in (
        (("-o", "x.png"), f"all {MANY} images would have this name"),
        (("--images", "none.png"), "image prompt none.png: there is no such file"),
        (("--checkpoint", "none"), "--checkpoint: none is not a file"),
        (("--seed", str(2**64 - 5)), "the last image's would exceed"),
    ):
        done = clip_sample(*words, *more)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1 and expected in done.stderr
    assert os.listdir() == []


def test_the_first_of_ten_million(folder):
    """It comes, and in no more memory than that of a thousand."""
    words = ("a", "--model", "emoji_64", "--steps", "1", "-cs", "0", "-n", str(MANY))
    running = script.start(*words, "-o", "{i}/{seed:x}.png", cwd=folder)
    running.wait_for(lambda: running.stdout.read_text().startswith("0/0.png\n"))
    status = Path(f"/proc/{running.process.pid}/status")
    peak = status.read_text().split("RssAnon:")[1].split()[0] if status.exists() else "0"
    running.signal(signal.SIGINT)
    assert running.wait().returncode == 130
    assert int(peak) < 1_500_000  # kB; ten million paths would take more than that alone
    assert [path for path in folder.rglob(".*")] == []


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a red fox", "a_red_fox"),
        ("../../etc/passwd", "etc_passwd"),
        (".hidden", "hidden"),
        ("C:\\x\0y\n\x1b[31m", "C_x_y_31m"),
        ("  __Fuchs, früh & 狐!  ", "Fuchs_früh_狐"),
        ("e\u0301", "\u00e9"),
        ("🦊", "1f98a"),
        ("-", "2d"),
        ("x" * 99 + " y", "x" * 99),
        ("狐" * 50, "狐" * 33),
        ("caf\udce9", "caf"),
    ],
)
def test_a_text_as_a_files_name(text, expected):
    assert slug(text) == expected


def test_what_stands_for_the_prompt():
    def labelled(prompts: list[str], images: list[str]) -> str:
        return label(Job(prompts, images, model="emoji_64"))

    assert labelled(["a fox", "fog"], ["sketch.png"]) == "a_fox_fog"
    assert labelled([], ["folder/sketch#1.png"]) == "sketch_1"
    assert labelled([], []) == "no_prompt"
    address = "https://me:secret@h.org:80/pictures/a%20b.png?key=secret"
    assert labelled([], [address, "file:///a/c.png"]) == "a_b_c"
