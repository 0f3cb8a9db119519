"""The status page in a real browser, of a consumer that really runs."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from pacifica_notifications_consumer.jobs.job import JobState
from pacifica_notifications_consumer.testing.sandbox import Sandbox
from pacifica_notifications_runner.status.address import StatusAddress
from tests.endtoend.browser import browsing, photograph
from tests.endtoend.conftest import BIN, TOOL, Deployment, Operator, event, pack, wait_until
from tests.support.machine.waiting import DEADLINE

#: Fails for events with even numbers; the others say that they run, and end when they are told to.
ENTRY_POINT = """\
import json, os, sys, time
number = int(json.load(open(sys.argv[1] + "/notification.json"))["eventID"].split(".")[-1])
print("begun", number, "<b>not bold</b>", flush=True)
if number % 2 == 0:
    sys.exit(3)
while not os.path.exists(sys.argv[2] + "/go"):
    time.sleep(0.01)
print("ended", number, flush=True)
"""


@pytest.fixture
def deployment(operator: Operator, sandbox: Sandbox, tmp_path: Path, quick_python: Path) -> Iterator[Deployment]:
    """A consumer whose job 2 is dead, while job 1 is running."""
    archive = pack(tmp_path / "consumer.zip", {"__main__.py": ENTRY_POINT})
    deployment = Deployment(operator, sandbox, archive, "--python", quick_python, "--grace", "0")
    for number in (1, 2):
        assert deployment.post(event(number)).status_code == 202
    deployment.job(2, JobState.DEAD)
    yield deployment
    deployment.command.stop()


def link_to(deployment: Deployment) -> str:
    """The link to the page, as the command tells it to the operator."""
    command = [str(BIN / TOOL), "status", "--state-dir", str(deployment.state_dir)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"http://\S+\?token=\S+", told)
    assert found, told
    return found[0]


def text_of(browser: Chrome) -> str:
    return str(browser.execute_script("return document.body.innerText"))


def see(browser: Chrome, text: str) -> None:
    """Wait until the browser shows a text: it goes to another page in its own time."""
    wait_until(lambda: text in text_of(browser), f"{text!r} on the page")


def click(browser: Chrome, text: str) -> None:
    """Follow a link or press a button, by the keyboard."""
    wanted = f"//a[normalize-space()='{text}'] | //button[normalize-space()='{text}']"

    def press() -> bool:
        found = browser.find_elements(By.XPATH, wanted)
        try:
            if found:
                browser.execute_script("arguments[0].focus()", found[0])
                found[0].send_keys(Keys.ENTER)
        except StaleElementReferenceException:
            # The page has just been brought up to date.
            return False
        return bool(found)

    wait_until(press, f"{text!r} to click")


def see_state(browser: Chrome, state: str) -> None:
    """Wait until the page of a job shows its state; the page may replace the element at any moment."""
    shown = 'return document.querySelector("dd .state")?.innerText'
    wait_until(lambda: browser.execute_script(shown) == state, f"{state!r} as the state")


def complaints(browser: Chrome) -> list[str]:
    """What the browser complains about, such as what the page's policy forbids."""
    entries = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return [entry["message"] for entry in entries if "favicon" not in entry["message"]]


def test_an_operator_sees_and_acts(deployment: Deployment, tmp_path: Path) -> None:
    """From the link to a job that is run again, one that is cancelled, and live output, without a mouse."""
    with browsing(tmp_path / "profile") as browser:
        browser.get(link_to(deployment))
        assert "token" not in browser.current_url
        see(browser, "Subscription: healthy")
        see(browser, "exit status 3")
        assert len(browser.find_elements(By.CSS_SELECTOR, "svg.chart rect.dead")) == 1
        photograph(browser, "overview")

        # Live output, and the state when it changes, without loading the page anew.
        browser.get(browser.current_url + "jobs/1")
        see(browser, "begun 1 <b>not bold</b>")
        see_state(browser, "running")
        browser.execute_script("window.stayed = true")
        photograph(browser, "running")
        deployment.let_end(1)
        see(browser, "ended 1")
        see_state(browser, "succeeded")
        assert browser.execute_script("return window.stayed") is True

        # Run a dead one again, after a question.
        click(browser, "Jobs")
        click(browser, "dead")
        click(browser, "2")
        before = deployment.job(2, JobState.DEAD)[0].started_at
        click(browser, "Run again")
        see(browser, "Run again: job 2?")
        photograph(browser, "confirm")
        click(browser, "Run again: job 2")
        wait_until(lambda: deployment.job(2, JobState.DEAD)[0].started_at != before, "the second run")

        # Cancel one that is running.
        assert deployment.post(event(3)).status_code == 202
        deployment.job(3, JobState.RUNNING)
        click(browser, "Overview")
        click(browser, "3")
        click(browser, "Cancel")
        click(browser, "Cancel: job 3")
        assert deployment.job(3, JobState.CANCELLED)[0].reason == "cancelled by an operator"

        # All dead ones at once.
        click(browser, "Replay")
        click(browser, "Preview")
        see(browser, "Run 1 job again?")
        before = deployment.job(2, JobState.DEAD)[0].started_at
        click(browser, "Run 1 job again")
        wait_until(lambda: deployment.job(2, JobState.DEAD)[0].started_at != before, "the third run")

        click(browser, "Notifications")
        click(browser, "2")
        see(browser, '"eventID": "metadata.ingest.2"')
        assert complaints(browser) == []
        insist_on_signing_out(browser)


def insist_on_signing_out(browser: Chrome) -> None:
    """Sign out, and find that no other tab, Back button or copy of before shows or does anything any more."""
    home = re.sub("(://[^/]+/).*", r"\1", browser.current_url)
    first = browser.current_window_handle
    browser.switch_to.new_window("tab")
    second = browser.current_window_handle
    browser.get(home)
    see(browser, "Subscription: healthy")
    browser.switch_to.window(first)
    browser.get(f"{home}jobs/2/retry")
    copied = {str(cookie["name"]): str(cookie["value"]) for cookie in browser.get_cookies()}
    form = {"csrf": browser.find_element(By.NAME, "csrf").get_attribute("value")}
    assert requests.get(home, cookies=copied, timeout=DEADLINE).status_code == 200
    click(browser, "Sign out")
    see(browser, "Token")
    browser.back()
    wait_until(lambda: browser.current_url.endswith("/jobs/2/retry"), "the page before")
    see(browser, "Token")
    assert browser.find_elements(By.NAME, "csrf") == []
    assert browser.get_cookies() == []
    assert requests.get(home, cookies=copied, timeout=DEADLINE).status_code == 401
    assert requests.post(f"{home}jobs/2/retry", form, cookies=copied, timeout=DEADLINE).status_code == 401
    browser.switch_to.window(second)
    see(browser, "Token")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_on_a_phone_and_with_a_screen_reader(deployment: Deployment, tmp_path: Path, dark: bool) -> None:
    """On a narrow screen nothing has to be scrolled sideways, texts stand out from their ground, all has a name."""
    with browsing(tmp_path / "profile", width=390, dark=dark) as browser:
        browser.get(link_to(deployment))
        home = browser.current_url
        for path in ("", "jobs", "jobs/2", "jobs/2/retry", "notifications", "notifications/2", "replay"):
            browser.get(home + path)
            name = f"phone-{'dark' if dark else 'light'}-{path.replace('/', '-') or 'overview'}"
            photograph(browser, name)
            wide = browser.execute_script("return document.documentElement.scrollWidth")
            assert wide <= 390, path
            assert browser.execute_script(_CONTRAST) == [], path
            assert browser.execute_script(_NAMELESS) == [], path
            assert len(browser.find_elements(By.TAG_NAME, "h1")) == 1
            assert browser.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"
        colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert colour == ("rgb(20, 24, 29)" if dark else "rgb(255, 255, 255)")


def test_without_scripts(deployment: Deployment, tmp_path: Path) -> None:
    """All can be seen and done without scripts, too."""
    with browsing(tmp_path / "profile", scripts=False) as browser:
        browser.get(link_to(deployment))
        see(browser, "exit status 3")
        browser.get(browser.current_url + "jobs/2")
        see(browser, "begun 2")
        browser.find_element(By.LINK_TEXT, "Run again").click()
        before = deployment.job(2, JobState.DEAD)[0].started_at
        browser.find_element(By.CSS_SELECTOR, "main button").click()
        wait_until(lambda: deployment.job(2, JobState.DEAD)[0].started_at != before, "the second run")


def test_the_token_is_in_no_log(deployment: Deployment) -> None:
    """What goes to a log says where the page is, and how to get the token, but not it; nor do jobs see it."""
    token = StatusAddress.find(deployment.state_dir).token
    assert "the status page is at http://127.0.0.1:" in deployment.command.stderr
    files = [path for path in (deployment.state_dir / "jobs").rglob("*") if path.is_file()]
    assert files
    for said in (deployment.command.stderr, deployment.command.stdout, *(path.read_text() for path in files)):
        assert token not in said
    read = []
    for pid in deployment.operator.processes():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            read += [Path(f"/proc/{pid}/{part}").read_bytes() for part in ("environ", "cmdline")]
    assert any(b"start-pacifica" in part for part in read)
    assert not any(token.encode() in part for part in read)


#: Texts that do not stand out from their ground as WCAG 2.2 wants (4.5 to 1).
_CONTRAST = """
const level = (c) => { const v = c / 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
const light = ([r, g, b]) => 0.2126 * level(r) + 0.7152 * level(g) + 0.0722 * level(b);
const read = (text) => text.match(/[\\d.]+/g).map(Number);
const ground = (node) => {
  for (; node; node = node.parentElement) {
    const colour = read(getComputedStyle(node).backgroundColor);
    if (colour.length === 3 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
const bad = [];
for (const node of document.querySelectorAll("body *")) {
  const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
  if (!own || ["SCRIPT", "STYLE", "NOSCRIPT", "TITLE"].includes(node.tagName)) continue;
  const [a, b] = [light(read(getComputedStyle(node).color)), light(ground(node))];
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (contrast < 4.5) bad.push(`${node.tagName} ${node.textContent.trim().slice(0, 30)} ${contrast.toFixed(2)}`);
}
return bad;
"""
#: What can be used but has no name that a screen reader could say.
_NAMELESS = """
return [...document.querySelectorAll("a, button, input:not([type=hidden]), select, progress, pre, svg[role=img]")]
  .filter((node) => !(node.textContent.trim() || node.getAttribute("aria-label") || node.closest("label")))
  .map((node) => node.outerHTML.slice(0, 80));
"""
