"""The HTML page of ``pfrl report`` in a browser without a network."""

import pytest

from experiments import cli
from tests.support.invented_study import AGENTS, write_sweep

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    folder = write_sweep(tmp_path_factory.mktemp("study") / "sweep", targets=("macs=0.5",))
    assert cli.main(["report", str(folder)]) == 0
    browser.get((folder / "report.html").as_uri())
    return browser


def column(page, table, place):
    script = "return [...document.querySelectorAll('table')[arguments[0]].tBodies[0].rows]\
        .map(row => row.cells[arguments[1]].innerText)"
    return page.execute_script(script, table, place)


def click(page, heading):
    script = "[...document.querySelectorAll('th button')]\
        .find(button => button.innerText === arguments[0]).click()"
    page.execute_script(script, heading)


def test_tables_are_sorted_by_a_click_on_a_heading(page):
    assert column(page, 0, 0) == list(AGENTS)
    click(page, "search accuracy (%)")
    falling = column(page, 0, 2)
    assert falling == sorted(falling, reverse=True)
    click(page, "search accuracy (%)")
    assert column(page, 0, 2) == falling[::-1]
    click(page, "agent")
    assert column(page, 0, 0) == sorted(AGENTS, reverse=True)


def test_what_has_no_number_comes_last_either_way(page):
    for _ in range(2):
        click(page, "difference to evolution")
        assert column(page, 0, 5)[-1] == "–"


def test_pictures_are_drawn_and_nothing_is_loaded_from_elsewhere(page):
    sizes = "return [...document.images].map(x => x.complete && x.naturalWidth)"
    assert all(width > 300 for width in page.execute_script(sizes))
    assert len(page.execute_script(sizes)) == 2
    loaded = "return performance.getEntriesByType('resource').map(x => x.name)"
    assert [name for name in page.execute_script(loaded) if not name.startswith("data:")] == []
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_a_seed_leads_to_the_folder_of_its_run(page):
    link = "return [...document.querySelectorAll('td a')].find(x => x.innerText === '1').href"
    page.get(page.execute_script(link))
    assert "history.jsonl" in page.page_source
    page.back()
