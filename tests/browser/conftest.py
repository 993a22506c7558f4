"""A headless Chromium for the tests of what a browser shows; without one they are skipped."""

import shutil

import pytest


@pytest.fixture(scope="session")
def browser():
    """Selenium's driver of a headless Chromium that reaches this machine only."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no Chromium here: apt-get install chromium chromium-driver")
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                 "--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                 "--window-size=1500,1300"):  # fmt: skip
        options.add_argument(word)
    service = selenium.ChromeService(executable_path=driver)
    with selenium.Chrome(options=options, service=service) as found:
        found.set_page_load_timeout(120)
        yield found
