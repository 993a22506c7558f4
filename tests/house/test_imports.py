"""The house as its imports draw it: floors and rooms in order, no folder crowded, no file long."""

import ast
import sys
from pathlib import Path

import pytest

import pfrl

ROOT = Path(__file__).resolve().parents[2]
FLOORS = ("pfrl", "envs", "agents", "experiments", "benchmarks")
"""From the ground up: a file imports from its own floor and those before it."""
ROOMS = {
    "pfrl": "graph cpu models tasks data training methods compression deploy cost evaluation",
    "agents": "rl search",
    "experiments": "settings records report watch launch run studies ablations",
}
"""Of each floor, from the ground up. Files beside the rooms: see ``CORNERSTONES``."""
CORNERSTONES = {
    "pfrl": {"bounds", "files", "registry", "user_cache", "user_code"},
    "agents": {"base"},
}
"""Files at a floor's root that its rooms may import; all others stand above the rooms."""
# Compression is useful alone: its floor must not need what only the floors above use.
REINFORCEMENT_LEARNING = frozenset({"gymnasium", "stable_baselines3", "torch"})
LONGEST = 400
CROWDED = 14
AT_A_ROOT = 5
FREE = {"pfrl/models/zoo"}
"""Folders that hold as many files as there are network families."""


def imported(code: str) -> set[str]:
    """Modules that ``code`` imports anywhere, inside functions and for types too."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


ONEDNN = "pfrl/cpu/kernels.py"
"""The one file that asks PyTorch for more than learning: its convolutions."""


def files_of(floor: str) -> list[Path]:
    files = sorted((ROOT / floor).rglob("*.py"))
    assert files, f"no Python files in {floor}/"
    return files


def room_of(floor: str, module: str) -> str | None:
    """The room of a module's dotted name; None if it is of another floor, or of no room."""
    parts = module.split(".")
    if parts[0] != floor or len(parts) < 2:
        return None
    return parts[1] if parts[1] in ROOMS[floor].split() else None


def test_imported_sees_every_kind_of_import():
    code = "import a.b, c as d\nfrom e.f import g\nfrom . import h\ndef k():\n    from i import j\n"
    assert imported(code) == {"a.b", "c", "e.f", "e.f.g", "i", "i.j"}


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_between_floors_point_down(floor):
    above = frozenset(FLOORS[FLOORS.index(floor) + 1 :])
    if floor == "pfrl":
        above |= REINFORCEMENT_LEARNING
    upward = {}
    for file in files_of(floor):
        path = str(file.relative_to(ROOT))
        found = {name.split(".")[0] for name in imported(file.read_text())} & above
        if found := found - ({"torch"} if path == ONEDNN else set()):
            upward[path] = sorted(found)
    assert upward == {}


@pytest.mark.parametrize("floor", ROOMS)
def test_imports_between_rooms_point_down(floor):
    """With rooms in one order and no import up that order, no circle of rooms can be."""
    rooms = ROOMS[floor].split()
    upward = []
    for file in files_of(floor):
        own = room_of(floor, ".".join(file.relative_to(ROOT).with_suffix("").parts))
        for module in imported(file.read_text()) if own else ():
            room = room_of(floor, module)
            if room is not None and rooms.index(room) > rooms.index(own or ""):
                upward.append(f"{file.relative_to(ROOT)} imports {module}")
    assert upward == []


@pytest.mark.parametrize("floor", ROOMS)
def test_rooms_do_not_import_what_stands_above_them(floor):
    own = {path.stem for path in (ROOT / floor).glob("*.py")} - CORNERSTONES.get(floor, set())
    names = {floor if stem == "__init__" else f"{floor}.{stem}" for stem in own}
    upward = {
        str(file.relative_to(ROOT)): sorted(found)
        for file in files_of(floor)
        if file.parent != ROOT / floor
        and (found := {m for m in imported(file.read_text()) if m in names})
    }
    assert upward == {}


@pytest.mark.parametrize("floor", ROOMS)
def test_every_folder_of_a_floor_is_a_room(floor):
    folders = {path.parent.name for path in (ROOT / floor).glob("*/__init__.py")}
    assert folders == set(ROOMS[floor].split())


def test_no_folder_is_crowded():
    crowded = {}
    for floor in FLOORS:
        for folder in {file.parent for file in files_of(floor)}:
            name = str(folder.relative_to(ROOT))
            count = len([file for file in folder.glob("*.py") if file.stem != "__init__"])
            most = AT_A_ROOT if name in ROOMS else CROWDED
            if count > most and name not in FREE:
                crowded[name] = count
    assert crowded == {}


@pytest.mark.parametrize("floor", FLOORS)
def test_no_module_has_the_name_of_another_thing(floor):
    """Neither of a module of the standard library, nor of a public function of ``pfrl``."""
    functions = {name for name in pfrl.__all__ if name.islower()}
    taken = {
        str(file.relative_to(ROOT)): file.stem
        for file in files_of(floor)
        if file.stem in sys.stdlib_module_names | functions
    }
    assert taken == {}


@pytest.mark.parametrize("floor", FLOORS)
def test_every_folder_is_a_package(floor):
    """A folder without ``__init__.py`` would be left out of the installed package."""
    folders = {file.parent for file in files_of(floor)}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("folder", [*FLOORS, "tests"])
def test_no_file_is_long(folder):
    lengths = {
        str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in files_of(folder)
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


@pytest.mark.parametrize("floor", FLOORS)
def test_every_file_says_what_it_is_for(floor):
    silent = [
        str(file.relative_to(ROOT))
        for file in files_of(floor)
        if file.read_text().strip() and not ast.get_docstring(ast.parse(file.read_text()))
    ]
    assert silent == []
