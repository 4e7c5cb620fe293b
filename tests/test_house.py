"""The house: who may import whom, and that each room stays small (docs/architecture.md)."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT, run_python

SCRIPTS = ("clip_sample", "cfg_sample", "cfg_modify_image", "make_grid")
# The rooms of the program from the lowest up, and what else of ours each may import.
PROGRAM = {
    "version": set(),
    "shell": {"version"},
    "weights": {"shell"},
    "compute": {"CLIP", "diffusion", "shell"},
    "job": {"diffusion", "shell", "weights"},
    "images": {"job", "shell", "version", "weights"},
    "studio": {"CLIP", "compute", "diffusion", "images", "job", "shell", "weights"},
    "run": {"compute", "diffusion", "images", "job", "shell", "studio", "weights"},
    "cli": {"images", "job", "run", "shell", "studio", "weights"},
}
# Modules that a room never imports, not even inside a function, and those that it imports nowhere
# else. What decides a picture and what reads a command line have to start at once.
NEVER = {
    "shell": {"torch", "PIL"},
    "job": {"torch", "PIL", "tqdm"},
    "images": {"torch"},
    "studio": {"argparse"},
}
INSIDE_FUNCTIONS = {
    "run": {"torch"},
    "cli": {"torch", "PIL", "tqdm"},
    "shell": {"requests", "tqdm"},
}
LONGEST, MOST_FILES, MOST_KERNELS, MOST_FLOORS = 300, 8, 12, 4
PACKAGES = ("CLIP", "diffusion", "v_diffusion")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for room in PACKAGES
    for path in sorted((ROOT / room).rglob("*.py"))
} | {script: ROOT / f"{script}.py" for script in SCRIPTS}


def room_of(module: str) -> str:
    """Return the room of a module: a package, a room of the program, or a script."""
    package, *rest = module.split(".")
    return rest[0] if package == "v_diffusion" and rest else package


def imports(module: str, functions: bool = True, types: bool = True) -> Iterator[str]:
    """Yield the modules that one imports.

    Args:
        functions: count imports inside functions, too.
        types: count imports for type checkers, too.
    """
    path = FILES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    nodes: Iterable[ast.AST] = ast.parse(path.read_text()).body
    if not types:
        nodes = [
            n for n in nodes if not (isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test))
        ]
    if functions:
        nodes = (node for top in nodes for node in ast.walk(top))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*parents, *filter(None, [node.module])]) if node.level else node.module
            names = [f"{base}.{alias.name}" for alias in node.names]
            yield from (name if name in FILES else base for name in names)


def floors(modules: set[str]) -> int:
    """Return the length of the longest way down through modules that import each other.

    Raises:
        RecursionError: they go in a circle.
    """
    below = {module: set(imports(module, types=False)) & modules - {module} for module in modules}

    def floor(module: str) -> int:
        return 1 + max(map(floor, below[module]), default=0)

    return max(map(floor, modules))


@pytest.mark.parametrize("room", PROGRAM)
def test_the_programs_rooms_import_downwards(room):
    modules = [module for module in FILES if room_of(module) == room]
    assert modules
    for module in modules:
        found = {room_of(name) for name in imports(module) if name in FILES}
        assert found <= PROGRAM[room] | {room}, module
        roots = {name.split(".")[0] for name in imports(module)}
        assert not roots & NEVER.get(room, set()), module
        at_the_top = {name.split(".")[0] for name in imports(module, functions=False)}
        assert not at_the_top & INSIDE_FUNCTIONS.get(room, set()), module


@pytest.mark.parametrize("package", ["diffusion", "CLIP"])
def test_the_models_packages_know_nothing_of_ours(package):
    for module in FILES:
        if module.split(".")[0] == package:
            strangers = {name for name in imports(module) if name in FILES}
            strangers = {name for name in strangers if name.split(".")[0] != package}
            # By a function: a published CLIP is found by its name.
            allowed = {"v_diffusion.weights"} if module == "CLIP.clip" else set()
            assert all(name.startswith(tuple(allowed)) for name in strangers), module
            top = set(imports(module, functions=False))
            assert not any(name.startswith("v_diffusion") for name in top), module


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_imports_little_at_its_start(script):
    at_the_top = {room_of(name) for name in imports(script, functions=False) if name in FILES}
    assert at_the_top <= {"cli", "job", "shell", "images"}


def test_there_is_no_circle():
    assert floors(set(FILES)) < 40


def test_nobody_imports_by_a_text_what_is_not_his_own():
    own = {"diffusion", "diffusion.models", "v_diffusion"}
    assert {name for name, path in FILES.items() if "import_module(" in path.read_text()} == own
    for name in own:
        calls = re.findall(r"import_module\((.*?),", FILES[name].read_text())
        assert all(call.startswith('f".') for call in calls)


def test_no_room_is_a_drawer():
    folders: dict[Path, list[str]] = {}
    for module, path in FILES.items():
        if path.parent != ROOT and path.name != "__init__.py":
            folders.setdefault(path.parent, []).append(module)
    for folder, modules in folders.items():
        names = [module for module in modules if not module.endswith("__main__")]
        assert len(names) <= (MOST_KERNELS if folder.name == "kernels" else MOST_FILES), folder
        most = 5 if folder.name == "kernels" else MOST_FLOORS
        assert floors(set(names)) <= most, folder
    paths = [*FILES.values(), *ROOT.glob("training/**/*.py"), *ROOT.glob("benchmark/**/*.py")]
    lengths = {path: len(path.read_text().splitlines()) for path in paths}
    assert {path.name: n for path, n in lengths.items() if n > LONGEST} == {}
    assert all(lengths[ROOT / f"{script}.py"] < 100 for script in SCRIPTS)


def test_a_constant_means_one_thing_in_a_room():
    for folder in {path.parent for path in FILES.values()} - {ROOT}:
        seen: dict[str, str] = {}
        for path in sorted(folder.glob("*.py")):
            for node in ast.parse(path.read_text()).body:
                targets = node.targets if isinstance(node, ast.Assign) else []
                names = [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
                for name in (name for name in names if re.fullmatch(r"[A-Z][A-Z0-9_]+", name)):
                    assert seen.setdefault(name, path.name) == path.name, f"{folder.name}: {name}"


def test_a_start_that_needs_no_torch_has_none(tmp_path):
    quick = ["v_diffusion.cli.program", "v_diffusion.run.run", "v_diffusion.weights.command"]
    code = f"import sys, clip_sample, {', '.join(quick)}; "
    code += "print({'torch', 'numpy'} & {*sys.modules})"
    assert run_python("-c", code, cwd=tmp_path).stdout == "set()\n"


def test_the_checkpoints_are_files_alone():
    assert not list((ROOT / "checkpoints").glob("**/*.py"))
