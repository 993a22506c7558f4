"""TensorBoard in a browser finds our runs, tags, hyper-parameters and pictures, and draws them.

Its cards come first and their curves a moment later, so everything is waited for.
"""

import subprocess
import sys
import time

import pytest

from experiments.records.history import best_so_far, read_history
from experiments.watch.board import About, Board
from experiments.watch.summary import write_summary
from tests.support.invented_run import BASE_MACS, LIMIT
from tests.support.invented_study import AGENTS, write_sweep

pytestmark = pytest.mark.browser

PATIENCE = 120.0
"""Seconds, on a machine that has much else to do."""
DEEP = """
  const found = [];
  const look = root => root.querySelectorAll("*").forEach(each => {
    if (each.matches(arguments[0])) found.push(each);
    if (each.shadowRoot) look(each.shadowRoot);
  });
  look(document);
"""
"""Collects what matches a selector, inside of shadow roots too."""
TEXT = (
    DEEP
    + """
  return found.flatMap(each => [...each.childNodes])
    .filter(each => each.nodeType === Node.TEXT_NODE).map(each => each.data.trim()).join(" ")
"""
)
LINES = (
    DEEP
    + """
  const coloured = canvas => {
    const view = canvas.width && canvas.height && canvas.getContext("2d");
    if (!view) return 0;
    const data = view.getImageData(0, 0, canvas.width, canvas.height).data;
    let count = 0;
    for (let i = 0; i < data.length; i += 4) {
      const colour = [data[i], data[i + 1], data[i + 2]];
      if (data[i + 3] && Math.max(...colour) - Math.min(...colour) > 40) count++;
    }
    return count;
  };
  const long = path => getComputedStyle(path).stroke === "none" ? 0 : path.getTotalLength();
  return found.map(each => each.matches("canvas") ? coloured(each) : long(each));
"""
)
"""How much there is of every curve: coloured points of a canvas, length of a path."""


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """The event files of a sweep with three seeds, of its searches and of its end."""
    folder = write_sweep(tmp_path_factory.mktemp("runs") / "sweep", targets=("macs=0.5",))
    for agent in AGENTS:
        for seed in range(3):
            run = folder / "macs=0.5" / agent / f"seed-{seed}"
            history = read_history(run / "history.jsonl")
            settings = {"agent": agent, "seed": seed, "budget": "macs=0.5"}
            board = Board(run, about=About(settings, "macs", LIMIT, BASE_MACS))
            for line, best in zip(history, best_so_far(history), strict=True):
                board.add_scalar("train/actor_loss", 1 / (1 + line["episode"]), line["episode"])
                board.episode(line, history[best or 0])
            board.close()
    write_summary(folder)
    return folder.parent


@pytest.fixture(scope="module")
def address(logs):
    """Where TensorBoard serves the logs, on loopback."""
    words = ["-m", "tensorboard.main", "--logdir", str(logs), "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            told = next(line for line in process.stderr if "http://127.0.0.1:" in line)
            yield next(word for word in told.split() if word.startswith("http"))
        finally:
            process.terminate()
            process.stderr.read()


def until(look, wanted):
    """What ``look`` finds, as soon as ``wanted`` holds of it."""
    end = time.monotonic() + PATIENCE
    while not wanted(found := look()):
        assert time.monotonic() < end, f"still {found!r} after {PATIENCE:.0f} s"
        time.sleep(0.5)
    return found


def text(browser):
    """All that stands on the page."""
    return browser.execute_script(TEXT, ":not(style):not(script)")


def opened(browser, address, plugin):
    browser.get(f"{address}#{plugin}")
    browser.refresh()  # another address behind the hash alone is the same page


def test_the_first_page_answers_three_questions_with_curves(browser, address):
    opened(browser, address, "custom_scalars")
    told = until(lambda: text(browser), lambda found: "What has it found?" in found)
    assert "Is it learning?" in told and "Does it hold the budget?" in told
    until(
        lambda: browser.execute_script(LINES, "canvas, svg path"),
        lambda found: sum(size > 100 for size in found) >= 3,
    )


def test_runs_are_named_by_what_they_are(browser, address):
    opened(browser, address, "timeseries")
    told = until(
        lambda: text(browser),
        lambda found: "sweep/macs=0.5/ddpg/seed-0" in found and "/accuracy" in found,
    )
    assert "sweep/macs=0.5/ddpg/all-seeds" in told and "sweep/summary" in told
    assert "/tb/" not in told


def test_the_table_of_hyper_parameters_has_a_row_a_search_and_our_metrics(browser, address):
    opened(browser, address, "hparams")
    told = until(
        lambda: text(browser),
        lambda found: "pfrl/best_accuracy" in found and "evolution" in found,
    )
    assert "agent" in told and "pfrl/budget_spent" in told


def test_pictures_of_policies_and_of_all_networks_are_shown(browser, address):
    opened(browser, address, "images")
    until(
        lambda: browser.execute_script(DEEP + "return found.map(x => x.naturalWidth)", "img"),
        lambda found: sum(width > 300 for width in found) >= 2,
    )
    assert "pfrl/all_networks" in text(browser)


def test_settings_and_results_are_texts(browser, address):
    opened(browser, address, "text")
    until(lambda: text(browser), lambda found: "results/text_summary" in found)
