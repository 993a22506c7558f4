"""The documentation is true: its snippets run, its commands parse, its tables are the code's."""

import dataclasses
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import agents
import envs
import pfrl
from agents import AGENTS, DDPGOptions, SACOptions, TD3Options, TQCOptions
from envs import Problem
from experiments import cli
from experiments.ablations import run as ablate
from experiments.report import inspection as inspect
from experiments.report import reporting
from experiments.run import applying, pretrain
from experiments.run import compression as compress
from experiments.run.shipped import exporting, measuring
from experiments.studies.methods import comparison as methods
from experiments.studies.pareto import front as pareto
from experiments.studies.pareto import pick
from experiments.studies.proxy import scores as proxy
from experiments.studies.sweep import searches as sweep
from experiments.studies.tune import trials as tune
from pfrl.deploy.packed.pack import pack, unpack
from pfrl.deploy.runtimes.base import RUNTIMES
from pfrl.registry import load_plugin
from pfrl.tasks.base import TASKS
from tests.support.marks import shown_elsewhere
from tests.support.tiny import TwoConvs, made, shape
from tests.support.toy import ToyTask

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
GUIDE = ROOT / "docs" / "guide"
USERS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("[it]*.md"), *GUIDE.rglob("*.md")])
"""What users read; ``install.md``, ``index.md`` and ``tutorial.md`` lie beside the guide."""
README = (ROOT / "README.md").read_text()
EXTEND = GUIDE / "extend.md"


def blocks(text: str, language: str) -> list[tuple[int, str]]:
    """``(first line, code)`` of every fenced block of a language."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [(text[: m.start(1)].count("\n"), m.group(1)) for m in pattern.finditer(text)]


def tables(text: str) -> list[list[list[str]]]:
    """Rows of cells of every table, without its head."""
    found, rows = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            found.append(rows[2:])
            rows = []
    return found


def test_blocks_and_tables_are_found():
    page = "a\n```python\nx = 1\n```\n| a | b |\n| -- | -- |\n| `c` | d |\n\n```sh\nls\n```\n"
    assert blocks(page, "python") == [(2, "x = 1\n")]
    assert tables(page) == [[["`c`", "d"]]]


FILES = ("graph.md", "extend.md")
"""Pages whose snippets are a file that commands name."""
RUN = [page for page in USERS if blocks(page.read_text(), "python") and page.name not in FILES]
"""Pages whose snippets are one session each."""


# Pages whose sessions train and compress.
LONG = [page for page in RUN if page.name in ("methods.md", "library.md")]


@pytest.mark.parametrize("page", shown_elsewhere(RUN, LONG), ids=lambda page: page.name)
def test_snippets_run(page, tmp_path, monkeypatch, capsys):
    """In order, as somebody would type them in one session."""
    monkeypatch.chdir(tmp_path)
    # A class looks for its module by name.
    session: dict = {"__name__": __name__}
    for line, code in blocks(page.read_text(), "python"):
        exec(compile("\n" * line + code, str(page), "exec"), session)
    assert "nan" not in capsys.readouterr().out


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The examples of ``extend.md`` as one plugin."""
    path = tmp_path_factory.mktemp("own") / "mine.py"
    path.write_text("\n".join(code for _, code in blocks(EXTEND.read_text(), "python")))
    load_plugin(path)
    return path


def test_own_methods_compress_and_are_packed(own, tmp_path):
    graph = pfrl.trace(made(TwoConvs), shape(1, 8, 8, 1))
    recipe = pfrl.Recipe(criterion="largest_weight", repair="rescaled", weights="powers_of_two")
    policy = pfrl.Policy.uniform(graph, keep=0.5, weight_bits=3)
    small = pfrl.compress(graph.source, policy, graph=graph, recipe=recipe)
    first, second = (np.asarray(graph.source.variables[f"conv{n}.kernel"]) for n in (1, 2))
    largest = np.abs(first).max((0, 1, 2)) + np.abs(second).max((0, 1, 3))
    kept = small.kept["conv1"]
    assert sorted(np.argsort(-largest)[:4]) == kept.tolist()
    expected = 2 * second[:, :, kept][..., small.kept["conv2"]]
    np.testing.assert_allclose(small.variables["conv2.kernel"], expected)

    sizes = pack(small, tmp_path / "small.packed")
    assert sizes.payload == pfrl.CostModel(graph, recipe=recipe).of(policy)["bytes"]
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    again = small.apply(unpack(tmp_path / "small.packed"), x, False)[0]
    np.testing.assert_allclose(again, small(x), rtol=1e-5, atol=1e-6)


@dataclasses.dataclass(frozen=True)
class OwnToy(ToyTask):
    """Another task than the one that is kept open for all tests, whose costs are the usual ones."""


def test_own_rewards_metrics_agents_and_the_rest_are_used_by_name(own):
    problem = Problem(OwnToy(), budget=pfrl.Budget.parse("outputs=0.5"), reward="thrifty")
    base = problem.open().costs.base
    result = agents.search("coins", problem, 3, seed=0)
    assert len(result.history) == 3
    for episode in result.history:
        costs = episode.evaluation.costs
        assert costs["outputs"] <= base["outputs"] / 2
        paid = episode.evaluation.accuracy - 0.1 * costs["macs"] / base["macs"]
        assert episode.reward == pytest.approx(paid)
    graph = pfrl.trace(made(TwoConvs), shape(1, 8, 8, 1))
    assert pfrl.CostModel(graph).base["outputs"] == 8 * 8 * 8 + 4 * 4 * 8 + 4

    ours, digits = pfrl.load_data("inverted_digits"), pfrl.load_data("digits")
    assert np.array_equal(ours.search.images, 255 - digits.search.images)
    logits = np.asarray([[1, 3, 2]] * 3)
    assert TASKS["top_two"]().quality(logits, np.arange(3)).tolist() == [0, 1, 1]
    judge = RUNTIMES["sliced-xla"].judge(lambda x: 2 * x, (3,))
    assert judge(np.ones((2, 3), np.float32)).tolist() == [[2, 2, 2]] * 2


def test_own_examples_are_short():
    code = [code.splitlines() for _, code in blocks(EXTEND.read_text(), "python")]
    assert [lines for lines in code if sum(map(bool, lines)) > 20] == []


def commands(text: str) -> list[list[str]]:
    """Words of every ``pfrl ...`` line with options, in fenced blocks and in running text."""
    lines = [line for _, code in blocks(text, "sh") for line in code.splitlines()]
    written = [code for code in re.findall(r"`([^`\n]+)`", text) if " --" in code]
    # Placeholders in running text, such as N and DIR, are no values.
    lines += [code for code in written if not re.search(r"\.\.\.| [A-Z]+\b", code)]
    # What a shell does with the output is not the command's.
    words = [
        shlex.split(line.split(" > ")[0], comments=True)[1:]
        for line in lines
        if line.startswith("pfrl ")
    ]
    return [each for each in words if each[1:] and each[-1] != "--help"]


def test_commands_are_found_in_blocks_and_in_text():
    page = "`pfrl a --b 1` and `pfrl c` \n```sh\npfrl d 2 > f  # e\n```\n"
    assert commands(page) == [["d", "2"], ["a", "--b", "1"]]


COMMANDS = [page for page in USERS if commands(page.read_text())]


@pytest.mark.parametrize("page", COMMANDS, ids=lambda page: page.name)
def test_commands_are_understood(page, own, tmp_path, monkeypatch, capsys):
    """Every ``pfrl`` line of the guide parses, and its settings go together."""
    monkeypatch.chdir(own.parent if page == EXTEND else tmp_path)
    for _, code in blocks(page.read_text(), "py"):
        # A file that the commands name is shown with its name in its first line.
        (tmp_path / code.split("\n")[0].removeprefix("# ")).write_text(code)
    for name in ("runs/first", "photos"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("net.onnx", "poses.npz", "mine.npz", "cifar10.zip", "runs/first/agent.npz"):
        (tmp_path / name).touch()  # the user's own; they are not read before the run
    ran = []
    runs = (compress, applying, exporting, measuring)
    studies = (ablate, methods, pareto, pick, proxy, sweep)
    for module in (*runs, *studies, inspect, reporting):
        monkeypatch.setattr(module, "run", lambda settings: ran.append(settings) or [])
    for module in (pretrain, tune):
        monkeypatch.setattr(module, "run", lambda settings: ran.append(settings) or Path())
    given = commands(page.read_text())
    for command in given:
        assert cli.main(command) == 0, (command, capsys.readouterr().err)
    assert len(ran) == len(given)


@pytest.mark.slow
def test_the_tutorial_can_be_followed(tmp_path):
    """Its commands run in their order, and what it tells to open is there."""
    text = (ROOT / "docs" / "tutorial.md").read_text()
    for _, code in blocks(text, "py"):
        (tmp_path / code.split("\n")[0].removeprefix("# ")).write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for line in [line for _, code in blocks(text, "sh") for line in code.splitlines()]:
        command = [sys.executable, "-m", "experiments", *shlex.split(line)[1:]]
        subprocess.run(command, check=True, cwd=tmp_path, env=environment)
    named = re.findall(r"`(runs/[\w/]+\.\w+)`", text)
    assert len(named) >= 4
    assert [file for file in named if not (tmp_path / file).exists()] == []


def test_inline_commands_are_understood(capsys):
    """Commands in the text, `pfrl ...`: each is there, and knows the options that it is given."""
    helped: dict[str, str] = {}
    unknown = []
    for page in PAGES:
        prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for command in re.findall(r"`pfrl ([^`]+)`", prose):
            name, *words = command.split()
            if name not in helped:
                with pytest.raises(SystemExit) as ended:
                    cli.main([name, "--help"])
                helped[name] = capsys.readouterr().out if ended.value.code == 0 else ""
            options = [word.split("=")[0] for word in words if word.startswith("--")]
            missing = [option for option in options if f"{option} " not in helped[name]]
            unknown += [(page.name, command)] if missing or not helped[name] else []
    assert len(helped) >= 5
    assert unknown == []


def test_every_make_target_is_in_the_readme():
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    listed = [row[0] for table in tables(README) for row in table if row[0].startswith("`make ")]
    assert sorted(listed) == sorted(f"`make {target}`" for target in targets)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_tests_that_are_named_are_there(page):
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    floors = "tests|pfrl|envs|agents|experiments|benchmarks"
    files = re.findall(rf"[` ]((?:{floors})/[\w/]+(?:\.py|/))", text)
    missing = [link for link in links if not (page.parent / link).exists()]
    missing += [file for file in files if not (ROOT / file).exists()]
    missing += [n for n in re.findall(rf"`((?:{floors})(?:\.\w+)+)`", text) if not is_there(n)]
    assert missing == []


def is_there(name: str) -> bool:
    """Whether a dotted name is that of a module, or of something in one."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def code_of(value: object) -> str:
    return f"`{value!r}`"


INHERITED = {TD3Options: DDPGOptions, SACOptions: DDPGOptions, TQCOptions: SACOptions}
"""Agents whose tables are of what differs from another's."""
OPTIONS = [agent.options for agent in AGENTS.values() if agent.options is not None]


def rows_of(options: type) -> list[list[str]]:
    """Name and default of every field."""
    return [[f"`{f.name}`", code_of(f.default)] for f in dataclasses.fields(options)]  # type: ignore


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: options.__name__)
def test_options_of_the_agents(options):
    """One table for every agent that has any; it follows the name of the type in the text."""
    text = "\n".join(page.read_text() for page in (GUIDE / "agents").glob("*.md"))
    known = rows_of(INHERITED[options]) if options in INHERITED else []
    expected = [row for row in rows_of(options) if row not in known]
    described = tables(text[text.index(f"`agents.{options.__name__}`") :])[0]
    assert [row[:2] for row in described] == expected


def test_fields_of_a_problem():
    described = tables((GUIDE / "environment.md").read_text())[0]
    assert [row[0] for row in described] == [f"`{f.name}`" for f in dataclasses.fields(Problem)]
    for row, field in zip(described[1:], dataclasses.fields(Problem)[1:], strict=True):
        written = row[1].strip("`").replace("−", "-").replace('"', "'")
        assert written == str(field.default) or written == repr(field.default)


def test_pfrl_imports_nothing_until_it_is_used():
    code = """
import sys
import pfrl
assert not {"jax", "flax", "numpy"} & sys.modules.keys()
from pfrl.compression.sliced import compress, run_graph
assert pfrl.compress is compress
assert sys.modules["pfrl.compression.sliced"].run_graph is run_graph
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("package", [pfrl, envs, agents], ids=lambda package: package.__name__)
def test_every_public_name_is_in_the_reference(package):
    page = (ROOT / "docs" / "api" / f"{package.__name__}.md").read_text()
    listed = re.findall(rf"^::: {package.__name__}\.(\w+?)_?$", page, re.MULTILINE)
    assert sorted(listed) == sorted(package.__all__)


def test_every_public_name_of_pfrl_is_there():
    assert set(pfrl.__all__) <= set(dir(pfrl))
    for name in pfrl.__all__:
        assert callable(getattr(pfrl, name)), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pfrl.nothing
