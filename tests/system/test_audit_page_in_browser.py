"""The page of an audit as a browser shows it, with no network."""

import base64
import re

import pytest
from audits import rich_audit
from browser import chromium_or_skip, open_page

from memsinks.report.audit import compare, parse
from memsinks.report.audit.comparison_page import render_comparison
from memsinks.report.audit.page import render_report

pytestmark = pytest.mark.system

DRIVE = """<script>
addEventListener("load", () => setTimeout(() => {
  const note = (name, value) => document.documentElement.setAttribute("data-" + name, value);
  try {
    const table = Array.from(document.querySelectorAll("table.sortable")).find(
      (one) => one.tBodies[0].rows.length > 4);
    const heads = Array.from(table.tHead.rows[0].cells);
    const numeric = heads.findIndex((head) => head.classList.contains("n"));
    const column = () => Array.from(table.tBodies[0].rows).map((row) => row.cells[numeric].dataset.sort).join(" ");
    const button = heads[numeric].querySelector("button");
    note("start", column());
    button.focus();
    note("focused", document.activeElement === button);
    ["up", "down", "back"].forEach((name) => {
      button.click();
      note(name, column());
      note(name + "-aria", heads.map((head) => head.getAttribute("aria-sort")).filter(Boolean).join(" "));
    });
    heads[0].querySelector("button").click();
    note("words", Array.from(table.tBodies[0].rows).map((row) => row.cells[0].textContent.trim()[0]).join(""));
    dispatchEvent(new Event("beforeprint"));
    note("folded", document.querySelectorAll("details:not([open])").length);
    dispatchEvent(new Event("afterprint"));
    note("folded-after", document.querySelectorAll("details:not([open])").length);
  } catch (error) { note("trouble", error); }
}, 4000));
</script>"""
"""Uses the page as a reader would, and writes what it saw into the document."""

FRAMED = """<!doctype html><html><head><title>x</title></head><body><iframe id="page" width="%d" height="%d"></iframe>
<script>
const frame = document.getElementById("page");
frame.srcdoc = decodeURIComponent(escape(atob("%s")));
frame.addEventListener("load", () => setTimeout(() => {
  const page = frame.contentDocument, root = document.documentElement;
  const top = (selector) => Math.round(page.querySelector(selector).getBoundingClientRect().top);
  root.setAttribute("data-inner", frame.contentWindow.innerWidth);
  root.setAttribute("data-scroll", page.documentElement.scrollWidth);
  root.setAttribute("data-cost", top("#cost"));
  root.setAttribute("data-unproven", top("#unproven + p"));
  root.setAttribute("data-end", Math.round(page.querySelector(".first").getBoundingClientRect().bottom));
  root.setAttribute("data-plots", page.querySelectorAll(".plot svg.main-svg").length);
}, 4000));
</script></body></html>"""
"""Chromium's window is wider than a phone; a frame is not."""


@pytest.fixture(scope="module")
def chromium():
    return chromium_or_skip()


def seen(dom, name):
    return re.search(rf'<html[^>]* data-{name}="([^"]*)"', dom)[1]


def numbers(text):
    return [float(word) for word in text.split()]


def test_plots_are_drawn_and_tables_sorted_without_a_network(chromium, tmp_path):
    html = render_report(parse(rich_audit()))
    dom, trouble = open_page(chromium, html.replace("<head>", f"<head>{DRIVE}", 1), tmp_path)
    assert trouble == []
    plots = html.count('class="plot"')
    assert plots > 6
    assert len(set(re.findall(r'<div class="plot[^"]*js-plotly-plot"[^>]*id="([^"]*)"', dom))) == plots
    start = numbers(seen(dom, "start"))
    assert start != sorted(start)
    assert numbers(seen(dom, "up")) == sorted(start)
    assert numbers(seen(dom, "down")) == sorted(start, reverse=True)
    assert numbers(seen(dom, "back")) == start
    assert [seen(dom, f"{name}-aria") for name in ("up", "down", "back")] == ["ascending", "descending", ""]
    assert seen(dom, "focused") == "true"
    assert seen(dom, "words") == "".join(sorted(seen(dom, "words")))
    assert (seen(dom, "folded"), int(seen(dom, "folded-after")) > 6) == ("0", True)


def framed(chromium, folder, width, height):
    html = base64.b64encode(render_report(parse(rich_audit())).encode()).decode()
    dom, trouble = open_page(chromium, FRAMED % (width, height, html), folder)
    assert trouble == []
    assert int(seen(dom, "inner")) == width
    assert int(seen(dom, "scroll")) <= width
    return dom


def test_a_phone_shows_cost_and_limits_first_and_scrolls_in_one_direction(chromium, tmp_path):
    dom = framed(chromium, tmp_path, 390, 844)
    assert int(seen(dom, "cost")) < int(seen(dom, "unproven")) < 800
    assert int(seen(dom, "plots")) > 6


def test_a_desktop_shows_answers_cost_and_limits_at_once(chromium, tmp_path):
    assert int(seen(framed(chromium, tmp_path, 1280, 800), "end")) < 800


def test_a_comparison_can_be_sorted(chromium, tmp_path):
    before, after = rich_audit(), rich_audit(name="after")
    for one in after["figures"]:
        if one["value"] is not None and one["condition"] == "own":
            one["value"] *= 0.5
    html = render_comparison(compare(parse(before), parse(after)))
    dom, trouble = open_page(chromium, html.replace("<head>", f"<head>{DRIVE}", 1), tmp_path)
    assert trouble == []
    assert numbers(seen(dom, "up")) == sorted(numbers(seen(dom, "start")))


def test_without_scripts_everything_can_be_read(chromium, tmp_path):
    html = re.sub(r"(?s)<script>.*?</script>", "", render_report(parse(rich_audit())))
    dom, trouble = open_page(chromium, html, tmp_path)
    assert trouble == []
    assert "The plots need JavaScript" in html
    assert dom.count("<td") == html.count("<td")
