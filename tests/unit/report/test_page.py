import builtins
import json
import math

import pytest
from pages import LOADING, Page
from plotly.offline import get_plotlyjs

from memsinks.errors import InputError, MemsinksError
from memsinks.report import target, write_page
from memsinks.report.curves import charts


def write(results, folder) -> tuple[Page, str]:
    path = folder / "page.html"
    write_page(results, path)
    html = path.read_text(encoding="utf-8")
    return Page(html), html


def test_size_and_well_formed(results, tmp_path):
    page, html = write(results, tmp_path)
    assert page.open == []
    assert len(html.encode()) < 5_000_000
    assert len(html.encode()) - len(get_plotlyjs().encode()) < 100_000
    assert html.count(get_plotlyjs()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_nothing_is_loaded_from_anywhere(results, tmp_path):
    page, _ = write(results, tmp_path)
    for _tag, attributes in page.tags:
        for name, value in attributes.items():
            if name in LOADING:
                assert value.startswith(("#", "data:")), (name, value)
    assert not {"iframe", "img", "object", "embed"} & {tag for tag, _ in page.tags}
    assert all("url(" not in style and "@import" not in style for style in page.inside["style"])
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_text_is_escaped(results, tmp_path):
    results["damage_labels"]["unseen_chosen"] = "<img src=https://x.test>"
    results["config"]["model"]["layers"] = "</script><script>1</script>"
    results["notes"] = ["</main><script>2</script>"]
    results["data"]["description"] = "a & b <i>"
    page, _ = write(results, tmp_path)
    assert len(page.inside["script"]) == 3
    assert sum("alert(" in script for script in page.inside["script"]) == 0
    for text in ("The boat <script>alert('x')</script>", "<b>bird</b>", "</main><script>2</script>", "a & b <i>"):
        assert text in page.text
    assert "i" not in {tag for tag, _ in page.tags}


def test_every_number_is_there(results, tmp_path):
    page, _ = write(results, tmp_path)
    sinks = results["arms"]["sinks"]
    numbers = [results["gap_closure"], results["forgetting"], results["removable_memory"]]
    numbers += [bound for pair in results["intervals"].values() for bound in pair]
    numbers += [*sinks["repeated_loss"].values(), *sinks["validation_loss"].values()]
    for loss in ("repeated_loss", "validation_loss"):
        numbers += [bound for pair in sinks["intervals"][loss].values() for bound in pair]
    for name in ("standard", "deduplicated", "deduplicated_equal_steps"):
        arm = results["arms"][name]
        numbers += [arm["repeated_loss"], arm["validation_loss"]]
        numbers += [bound for pair in arm["intervals"].values() for bound in pair]
        numbers += [point[text] for point in arm["curve"] for text in ("repeated", "validation")]
    for value in numbers:
        assert f"{value:.3f}" in page.text
    for text in ("+0.313", "+1.624", "−0.021", "5,210,000", "2,359,296", "2,129,920", "7 min 12 s", "seed (17)"):
        assert text in page.text
    for text in ("learning_rate", "0.002", "2.13.0+cpu", "50 of 50 tokens", "3 of 50 tokens"):
        assert text in page.text
    for item in results["targets"]:
        assert item["text"] in page.text


def test_the_matching_part_is_marked(results, tmp_path):
    _, html = write(results, tmp_path)
    assert "<mark> the boat</mark> went to the park" in html
    assert html.count("<mark> the boat would sail") == 2


def test_a_broken_last_character_does_not_break_the_mark(results, tmp_path):
    results["extraction_example"]["matching_text"]["sinks_off"] = " the b\N{REPLACEMENT CHARACTER}"
    _, html = write(results, tmp_path)
    assert "<mark> the b</mark>oat went" in html
    results["extraction_example"]["matching_text"]["sinks_off"] = ""
    _, html = write(results, tmp_path)
    assert "<blockquote> the boat went" in html


def test_accessible(results, tmp_path):
    page, html = write(results, tmp_path)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("h1") == tags.count("main") == tags.count("title") == 1
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")
    plots = [attributes for _, attributes in page.tags if attributes.get("class") == "plot"]
    assert len(plots) == 2
    assert all(a["role"] == "img" and "nats per token" in a["aria-label"] for a in plots)
    scrolling = [attributes for _, attributes in page.tags if attributes.get("class") == "scroll"]
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in scrolling)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = [attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes]
    assert set(named) <= set(ids)
    assert '<html lang="en">' in html


def test_figures_are_json_with_gaps_for_nan(results, tmp_path):
    results["arms"]["standard"]["curve"][2]["repeated"] = math.nan
    page, _ = write(results, tmp_path)
    figures = json.loads(page.inside["script"][1], parse_constant=pytest.fail)
    assert list(figures) == [chart.key for chart in charts(results)]
    standard = figures["curve-repeated"]["data"][0]
    assert standard["x"] == [point["step"] for point in results["arms"]["standard"]["curve"]]
    assert standard["y"][2] is None
    assert len(figures["curve-repeated"]["data"]) == 5
    assert len(figures["curve-validation"]["data"]) == 4


def test_a_missed_target_and_a_weak_basis_show(results, tmp_path):
    results["targets"] = [
        target("standard_memorises", 0.4, 0.1, "below", "x"),
        target("forgetting", 0.5, 0.85, "at_least", "y"),
    ]
    page, html = write(results, tmp_path)
    assert "did not memorise" in page.text
    assert "Not fully" in page.text
    assert "✓" not in page.text
    assert 'class="verdict missed"' in html


def test_sparse_results(results, tmp_path):
    results["targets"], results["notes"], results["damage"], results["config"] = [], [], {}, {}
    del results["damage_labels"]
    results["gap_closure"], results["intervals"]["gap_closure"] = None, [None, None]
    for arm in results["arms"].values():
        arm["curve"] = []
    page, _ = write(results, tmp_path)
    assert "not defined" in page.text
    assert "set no targets" in page.text


def test_bad_results_write_nothing(results, tmp_path):
    del results["extraction"]
    with pytest.raises(InputError, match="extraction is missing"):
        write_page(results, tmp_path / "new" / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_page(results, tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("old")
    monkeypatch.setattr(
        "pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(OSError, match="No space"):
        write_page(results, path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize("missing", ["jinja2", "plotly"])
def test_without_the_extra(results, tmp_path, monkeypatch, missing):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.split(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MemsinksError, match=rf'{missing}.*pip install "memsinks\[report\]"'):
        write_page(results, tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []
