"""The page in a real browser: no error, tables that sort, pictures, phone and desktop, light and
dark.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from nupes.report.page import render
from tests.report.facts import full_facts

PHONE, DESKTOP = 360, 1280
BROWSERS, DRIVER = ("chromium", "google-chrome"), "chromedriver"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return a headless browser that shows the page."""
    program = next((path for path in map(shutil.which, BROWSERS) if path), None)
    driver = shutil.which(DRIVER)
    if program is None or driver is None:
        pytest.skip("needs chromium and chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    page = tmp_path_factory.mktemp("report") / "report.html"
    page.write_text(render(full_facts()), encoding="utf-8")
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    try:
        chrome.get(page.as_uri())
        yield chrome
    finally:
        chrome.quit()


def show(browser: Any, width: int, scheme: str = "light") -> None:
    """Show the page at a width and in a colour scheme."""
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def column(browser: Any, index: int) -> list[str]:
    """Return the texts of a column of the layer table."""
    cells = browser.find_elements(By.CSS_SELECTOR, f"#layers tbody tr > :nth-child({index})")
    return [cell.text for cell in cells]


def luminance(color: str) -> float:
    """Return the relative luminance of "rgb(r, g, b)" (WCAG 2, section 1.4.3)."""
    channels = [int(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_no_message_in_the_console(browser: Any) -> None:
    browser.refresh()
    assert browser.get_log("browser") == []


def test_tables_sort_both_ways(browser: Any) -> None:
    show(browser, DESKTOP)
    assert column(browser, 2) == ["conv", "linear"]
    cycles = browser.find_element(By.XPATH, "//table[@id='layers']//button[text()='MACs']")
    cycles.click()
    assert column(browser, 5) == ["864", "480"]
    cycles.click()
    assert column(browser, 5) == ["480", "864"]
    heading = cycles.find_element(By.XPATH, "..")
    assert heading.get_attribute("aria-sort") == "ascending"
    name = browser.find_element(By.XPATH, "//table[@id='layers']//button[text()='Layer']")
    name.click()
    assert column(browser, 2) == ["conv", "linear"]
    name.click()
    assert column(browser, 2) == ["linear", "conv"]


def test_a_link_opens_its_layer(browser: Any) -> None:
    show(browser, DESKTOP)
    details = browser.find_element(By.ID, "layer-1")
    assert details.get_attribute("open") is None
    browser.find_element(By.CSS_SELECTOR, "#layers a[href='#layer-1']").click()
    assert details.get_attribute("open") is not None


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_pictures_are_there_and_nothing_overflows(browser: Any, width: int) -> None:
    show(browser, width)
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    script = (
        "const e = document.documentElement; return [innerWidth, e.scrollWidth - e.clientWidth]"
    )
    assert browser.execute_script(script) == [width, 0]
    pictures = browser.find_elements(By.CSS_SELECTOR, "svg")
    # Waterfall, timeline, arrays, accuracy, graph; weights of two layers, values of one.
    assert len(pictures) == 8
    for picture in pictures:
        box = picture.rect
        assert min(box["width"], box["height"]) > 60
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


def test_text_is_large_enough_on_a_phone(browser: Any) -> None:
    show(browser, PHONE)
    script = """return [...document.querySelectorAll('svg.chart')].map(svg =>
        Math.min(...[...svg.querySelectorAll('text')].map(text =>
            parseFloat(getComputedStyle(text).fontSize) * svg.getBoundingClientRect().width
            / svg.viewBox.baseVal.width)))"""
    assert min(browser.execute_script(script)) >= 7.5
    script = """return Math.min(...[...document.querySelectorAll('p, td, th, dd, dt, li')].map(
        part => parseFloat(getComputedStyle(part).fontSize)))"""
    assert browser.execute_script(script) >= 12.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(browser: Any, scheme: str) -> None:
    show(browser, DESKTOP, scheme)
    script = """const probe = document.createElement('i'); document.body.append(probe);
        const found = {};
        for (const name of ['page', 'card', 'ink', 'muted', 'accent', 'good']) {
            probe.style.color = `var(--${name})`; found[name] = getComputedStyle(probe).color;
        }
        probe.remove(); return found;"""
    light = {name: luminance(value) for name, value in browser.execute_script(script).items()}
    assert (light["page"] > 0.5) == (scheme == "light")
    for front, least in (("ink", 7), ("muted", 4.5), ("accent", 4.5), ("good", 3)):
        for back in ("page", "card"):
            low, high = sorted((light[front], light[back]))
            assert (high + 0.05) / (low + 0.05) >= least, (front, back)


def test_pictures_follow_the_scheme(browser: Any) -> None:
    script = "return getComputedStyle(document.querySelector('svg.chart text')).fill"
    show(browser, DESKTOP, "light")
    light = browser.execute_script(script)
    show(browser, DESKTOP, "dark")
    assert browser.execute_script(script) != light


def test_no_request_leaves_the_page(browser: Any) -> None:
    script = "return performance.getEntriesByType('resource').map(entry => entry.name)"
    names = browser.execute_script(script)
    assert [name for name in names if not name.startswith(("data:", "file:"))] == []
    assert Path(browser.current_url.removeprefix("file://").split("#")[0]).is_file()
