"""The house has four floors, imports only point down, and no file is long."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("pfrl", "envs", "agents", "experiments")
# Compression is useful alone: its floor must not need what only the floors above use.
REINFORCEMENT_LEARNING = frozenset({"gymnasium", "stable_baselines3", "torch"})
LONGEST = 400


def imported(code: str) -> set[str]:
    """Top-level packages that ``code`` imports anywhere, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def files_of(floor: str) -> list[Path]:
    files = sorted((ROOT / floor).rglob("*.py"))
    assert files, f"no Python files in {floor}/"
    return files


def test_imported_sees_every_kind_of_import():
    code = "import a.b, c as d\nfrom e.f import g\nfrom . import h\ndef k():\n    from i import j\n"
    assert imported(code) == {"a", "c", "e", "i"}


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_point_down(floor):
    above = frozenset(FLOORS[FLOORS.index(floor) + 1 :])
    if floor == "pfrl":
        above |= REINFORCEMENT_LEARNING
    upward = {
        str(file.relative_to(ROOT)): sorted(found)
        for file in files_of(floor)
        if (found := imported(file.read_text()) & above)
    }
    assert upward == {}


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
