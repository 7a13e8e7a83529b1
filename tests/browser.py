"""What tests in a browser share."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

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


def chromium_or_skip():
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
