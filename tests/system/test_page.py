"""The results page as a browser shows it, with no network."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from memsinks.report import write_page

pytestmark = pytest.mark.system

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--enable-logging=stderr",
    "--virtual-time-budget=10000",
    "--dump-dom",
]

PROBE = """<script>
(() => {
  const note = (what) => {
    const root = document.documentElement;
    root.dataset.trouble = (root.dataset.trouble || "") + "[" + what + "]";
  };
  addEventListener("error", (e) => note("error " + (e.message || e.target.src || e.target.href)), true);
  addEventListener("unhandledrejection", (e) => note("rejection " + e.reason));
  addEventListener("securitypolicyviolation", (e) => note("refused " + e.blockedURI));
})();
</script>"""
"""Writes into the document what could not be loaded, what its policy refused and what its scripts threw."""


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None:
        message = "Chromium is missing; `make test-system` installs it as root on a Debian system"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return CHROMIUM


def open_page(chromium: str, html: str, folder: Path) -> tuple[str, list[str]]:
    """The document after its scripts have run, and whatever went wrong in it."""
    page = folder / "probed.html"
    page.write_text(html.replace("<head>", f"<head>{PROBE}", 1), encoding="utf-8")
    done = subprocess.run(
        [chromium, *FLAGS, f"--user-data-dir={folder / 'profile'}", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    trouble = re.findall(r'<html[^>]* data-trouble="([^"]*)"', done.stdout)
    return done.stdout, trouble + [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


def test_the_page_draws_its_plots_without_a_network(chromium, tmp_path):
    results = json.loads(Path(__file__).with_name("results.json").read_text(encoding="utf-8"))
    write_page(results, tmp_path / "index.html")
    dom, trouble = open_page(chromium, (tmp_path / "index.html").read_text(encoding="utf-8"), tmp_path)
    assert trouble == []
    assert len(re.findall(r'<svg class="main-svg"', dom)) >= 2
    assert len(re.findall(r'<g class="trace scatter', dom)) == 9, "five curves of repeated loss, four of validation"
    for words in ("Standard", "Deduplicated", "Loss on the repeated stories", "Loss on validation stories"):
        assert words in dom


@pytest.mark.parametrize(
    "head",
    [
        '<script src="https://memsinks.invalid/a.js"></script>',
        '<link rel="stylesheet" href="https://memsinks.invalid/a.css">',
        """<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'">
        <script>fetch("https://memsinks.invalid/a.json").catch(() => {})</script>""",
        "<script>undefined.plot()</script>",
    ],
    ids=["script", "style", "refused", "thrown"],
)
def test_a_page_in_trouble_would_be_noticed(chromium, tmp_path, head):
    html = f"<!doctype html><html><head><title>x</title>{head}</head><body></body></html>"
    _, trouble = open_page(chromium, html, tmp_path)
    assert trouble
