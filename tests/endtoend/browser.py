"""A real browser, without a window, that tests look through."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

#: Where the screenshots are put, to be looked at, if anywhere.
SCREENSHOTS = os.environ.get("PACIFICA_TEST_SCREENSHOTS")


@contextlib.contextmanager
def browsing(home: Path, *, width: int = 1280, dark: bool = False, scripts: bool = True) -> Iterator[Chrome]:
    """Open a browser, and close it.

    Args:
        home: A directory for what it keeps.
        width: The width of its page in pixels.
        dark: Whether its user wants dark pages.
        scripts: Whether it runs scripts.
    """
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert program, "there is no chromium: make test installs it"
    assert driver, "there is no chromedriver: make test installs it"
    options = Options()
    options.binary_location = program
    # In a container it may run as root, which it does without its sandbox only.
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--lang=en"):
        options.add_argument(argument)
    options.add_argument(f"--window-size={width},1200")
    options.add_argument(f"--user-data-dir={home}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options=options, service=Service(driver))
    try:
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        metrics = {"width": width, "height": 1200, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        if not scripts:
            browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        yield browser
    finally:
        browser.quit()


def photograph(browser: Chrome, name: str) -> None:
    """Keep what the browser shows, if somebody wants to look at it."""
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(Path(SCREENSHOTS) / f"{name}.png"))
