"""The page of a comparison, opened from the disk in headless Chromium."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from stagewise_kd.comparison.compare import compare
from stagewise_kd.comparison.page import Exhibit
from tests.fake_runs import write_run

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HEADINGS = ["Differences", "Figures", "Beside the published figures", "Gallery", "Runs"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@pytest.fixture(scope="module")
def page_file(tmp_path_factory) -> Path:
    """The page of two methods with two fractions and three seeds each, and a gallery."""
    folder = tmp_path_factory.mktemp("page")
    for method, score in (("stagewise", 0.8), ("no_teacher", 0.6)):
        for fraction in (0.25, 1.0):
            for seed in range(3):
                facts = {"method": method, "data_fraction": fraction, "dataset": "cifar10"}
                name = f"{method}-{fraction}-{seed}"
                write_run(folder / "study" / name, score + 0.01 * seed, seed, **facts)
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    exhibit = Exhibit("a-rather-long-name-of-an-image-file.png", [("image", noise)] * 8)
    return compare([folder / "study"], folder / "out", [exhibit]).page


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
def test_opens_whole_and_alone(browser, page_file, width, height):
    page = browser.new_page(viewport={"width": width, "height": height})
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(page_file.as_uri(), wait_until="load")
    assert [url for url in requests if not url.startswith("data:")] == [page_file.as_uri()]
    assert complaints == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("[...document.images].map(image => image.naturalWidth > 0)") == [True] * 13
    assert page.locator("h1").inner_text() == "12 runs on cifar10"
    assert page.locator("h2").all_inner_texts() == HEADINGS
    page.close()
