"""The results page as a browser shows it, with no network."""

import json
import re
from pathlib import Path

import pytest
from browser import chromium_or_skip, open_page

from memsinks.report import write_page

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def chromium():
    return chromium_or_skip()


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
