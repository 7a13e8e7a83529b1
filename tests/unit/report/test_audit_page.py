import builtins
import json
import re
from itertools import pairwise

import pytest
from audits import CONDITIONS, rich_audit
from pages import LOADING, Page

from memsinks.errors import InputError, MemsinksError
from memsinks.report.audit import page as page_module
from memsinks.report.audit import parse, write_report
from memsinks.report.audit.page import render_report
from memsinks.report.audit.shown import figure
from memsinks.report.html import TEMPLATES

HOSTILE = "<script>alert('x')</script><img src=https://x.test onerror=1>"


@pytest.fixture(scope="module")
def rich():
    return rich_audit()


@pytest.fixture(scope="module")
def rendered(rich):
    html = render_report(parse(rich))
    return Page(html), html


@pytest.fixture
def light(monkeypatch):
    """Without plotly, for speed; what it draws is tested in a browser."""
    monkeypatch.setattr(page_module, "packed_plotly_js", lambda: "")


def words(page):
    return " ".join(page.text.split())


def test_every_figure_is_there_with_its_interval(rich, rendered):
    page, _ = rendered
    for one in rich["figures"]:
        shown = figure(one["value"], one["unit"])
        assert f"{shown}[{figure(one['low'], one['unit'])}, " in page.text or one["low"] is None
        assert one["measure"] in page.text
        assert one["note"] in page.text
    for condition in CONDITIONS:
        assert condition in page.text


def test_every_document_of_the_target_is_there_and_unseen_ones_are_summed_up(rich, rendered):
    page, _ = rendered
    for one in rich["documents"]:
        if one["texts"] == "target":
            assert one["document"] in page.text
            assert figure(one["value"], "") in page.text
    assert "unseen-000" not in page.text
    assert "229 unseen documents: median and range" in page.text


def test_points_of_curves_stand_in_a_table(rich, rendered):
    page, _ = rendered
    for curve in rich["curves"]:
        assert f"{curve['condition']}, {curve['texts']}" in page.text
        assert f"{curve['y'][-1]:.4g}" in page.text


def test_the_first_screen_says_what_was_removed_what_it_cost_and_what_is_not_proven(rich, rendered):
    first = words(rendered[0]).split("Conditions Lineage")[0]
    assert "still holds of source 'Birch House'" in first
    assert "Removed source 'Birch House': 12 documents, 1,812 tokens, each trained 100 times" in first
    assert "in memory: the saved model still holds it; audited on 25 November 2026" in first
    assert "✓ No Can the text be extracted" in first
    assert "? Not sure Can it be told" in first
    assert "• Yes Does the model hold" in first
    assert "Ashford Press, which stays: 0.007 before, 0.020 after." in first
    assert "Not measured: Does what the text taught about its source remain?" in first
    assert rich["limits"][0] in first


def test_a_part_of_the_text_is_not_passed_off_as_all_of_it(light):
    audit = rich_audit()
    audit["target"]["complete"] = False
    assert "source 'Birch House': only the 12 most exposed documents, 1,812 tokens" in render_report(
        parse(audit)
    ).replace("&#39;", "'")


def test_a_removal_in_another_copy_of_the_same_name_is_not_one_in_memory(light):
    audit = rich_audit()
    next(c for c in audit["conditions"] if c["name"] == "removed")["in_memory"] = False
    page = words(Page(render_report(parse(audit))))
    assert "in another copy, sinks: the run itself still holds it" in page
    assert "in memory: the saved model still holds it" not in page


def test_all_limits_and_what_was_left_out_are_there_without_folders(rich, rendered):
    page, html = rendered
    for limit in rich["limits"]:
        assert limit in page.text
    assert "membership.lira.own" in page.text
    assert "base: no model is there" in page.text
    assert "/home" not in html
    assert "shadow-0" in page.text


def test_nothing_is_loaded_from_anywhere(rendered):
    page, html = rendered
    for _tag, attributes in page.tags:
        for name, value in attributes.items():
            if name in LOADING:
                assert value.startswith(("#", "data:")), (name, value)
    assert not {"iframe", "img", "object", "embed"} & {tag for tag, _ in page.tags}
    assert all("url(" not in style and "@import" not in style for style in page.inside["style"])
    policy = next(a["content"] for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert "//" not in re.sub(r'(?s)id="packed-plotly">.*?</script>|^\s*//.*?$', "", html, flags=re.MULTILINE)


def test_well_formed_and_accessible(rendered):
    page, html = rendered
    assert page.open == []
    tags = [tag for tag, _ in page.tags]
    assert tags.count("h1") == tags.count("main") == tags.count("title") == tags.count("nav") == 1
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    plots = [attributes for _, attributes in page.tags if attributes.get("class") == "plot"]
    assert plots
    assert all(a["role"] == "img" and len(a["aria-label"]) > 40 for a in plots)
    scrolling = [attributes for _, attributes in page.tags if attributes.get("class") == "scroll"]
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in scrolling)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    inner = [a["href"][1:] for tag, a in page.tags if tag == "a"]
    named = [attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes]
    assert {*inner, *named} <= set(ids)
    assert '<html lang="en">' in html


def test_an_answer_is_told_by_word_and_symbol_too(rich, light):
    rich = json.loads(json.dumps(rich))
    for key, answer, badge in (
        ("extractable", "yes", "! Yes"),
        ("member", "no", "✓ No"),
        ("held", "no", "? No"),
    ):
        next(v for v in rich["verdicts"] if v["key"] == key)["answer"] = answer
        assert badge in words(Page(render_report(parse(rich))))


def test_hostile_names_are_text(rich, light):
    rich = json.loads(json.dumps(rich).replace("Ashford Press", json.dumps(HOSTILE)[1:-1]))
    rich["run"]["name"] = rich["target"]["asked"] = rich["versions"]["python"] = HOSTILE
    for kind in ("figures", "curves", "documents", "examples"):
        for one in rich[kind]:
            one["measure"] = HOSTILE
            one["condition"] = HOSTILE if one["condition"] == "own" else one["condition"]
    rich["documents"][0]["document"] = rich["left_out"][0]["why"] = rich["limits"][0] = HOSTILE
    html = render_report(parse(rich))
    page = Page(html)
    assert len(page.inside["script"]) == 3
    assert "img" not in {tag for tag, _ in page.tags}
    assert "alert('x')" in page.text
    figures = json.loads(page.inside["script"][1])
    # Plotly reads some HTML, links among them.
    assert not re.search(r"<(?!br>|b>|/b>|extra>|/extra>)", json.dumps(figures))


def test_the_matching_part_is_marked_and_the_text_told_by_hash(rich, rendered, light):
    _, html = rendered
    digest = rich["examples"][1]["expected"][0]["sha256"]
    same = f"[6 tokens, sha256 {digest[:8]}…]"
    assert f'<mark><span class="hashed">{same}</span></mark>' in html
    assert "and the dog was sad" in html
    assert "park" not in html
    quoted = render_report(parse(rich_audit(quote=True)))
    assert "<mark> the boat went to the park</mark> and the dog was sad" in quoted
    assert "One day a small boat" in quoted


def test_plots_are_json_and_drawn_on_axes_that_fit(rich, light):
    rich = json.loads(json.dumps(rich))
    rich["curves"][0]["y"][3] = float("nan")
    page = Page(render_report(parse(rich)))
    figures = json.loads(page.inside["script"][1], parse_constant=pytest.fail)
    relearning = next(f for f in figures.values() if f["layout"]["xaxis"]["title"]["text"] == "tokens trained")
    assert [t["name"] for t in relearning["data"] if t.get("showlegend", True)] == [
        f"{c['condition']}, {c['texts']}" for c in rich["curves"] if c["section"] == "recovery"
    ]
    assert next(t for t in relearning["data"] if t.get("showlegend", True))["y"][3] is None
    assert "type" not in relearning["layout"]["xaxis"]
    roc = next(f for f in figures.values() if f["layout"]["xaxis"]["title"]["text"] == "false positives (log)")
    assert roc["layout"]["xaxis"]["type"] == roc["layout"]["yaxis"]["type"] == "log"


@pytest.mark.parametrize("documents", [12, 1000])
def test_size(documents):
    html = render_report(parse(rich_audit(documents=documents, unseen=300)))
    assert len(html.encode()) < 5_000_000
    assert ("Each document: loss (100 of 1000)" in html) == (documents == 1000)


def test_a_plain_model_and_an_audit_without_figures(rich, light):
    bare = json.loads(json.dumps(rich))
    for kind in ("figures", "curves", "documents", "examples", "left_out", "verdicts"):
        bare[kind] = []
    bare["lineage"] = None
    bare["conditions"] = [{"name": "model", "says": "the model that is audited", "model": "sinks", "in_memory": False}]
    page = Page(render_report(parse(bare)))
    first = words(page)
    assert "What the model “sinks” holds of" in first
    assert "Audited source 'Birch House'" in first
    assert "nothing was removed; audited on 25 November 2026" in first
    assert "No question was answered" in first
    assert "The model has no sinks" in first
    assert len(page.inside["script"]) == 1


def test_a_text_that_was_removed_before_tells_when(rich, light):
    rich = json.loads(json.dumps(rich))
    rich["target"]["removed"] = True
    assert "from the saved model, on 2 October 2026" in render_report(parse(rich))
    # Which of several took this text is not known.
    rich["lineage"]["removals"].append(
        rich["lineage"]["removals"][0] | {"id": "r-2", "time": "2026-11-03T09:00:00+00:00"}
    )
    told = "from the saved model, which had removals on 2 October 2026 and 3 November 2026"
    assert told in render_report(parse(rich))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda a: a["target"].pop("sha256"), "target.sha256"),
        (lambda a: a["verdicts"][0].pop("says"), "verdicts.0.says"),
        (lambda a: a.update(seconds="long"), "seconds"),
        (lambda a: a["curves"][0]["x"].pop(), "relearning"),
    ],
)
def test_an_altered_audit_is_refused_by_the_name_of_what_is_wrong(rich, change, where):
    rich = json.loads(json.dumps(rich))
    change(rich)
    with pytest.raises(InputError, match=where):
        parse(rich)


@pytest.mark.parametrize("missing", ["jinja2", "plotly"])
def test_without_the_extra_nothing_is_written(rich, tmp_path, monkeypatch, missing):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.split(".")[0] == missing:
            raise ImportError(f"no {name}", name=missing)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MemsinksError, match=rf"{missing}.*memsinks\[report\]"):
        write_report(parse(rich), tmp_path / "new" / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_the_same_audit_gives_the_same_page(rich, rendered):
    assert render_report(parse(json.loads(json.dumps(rich)))) == rendered[1]


# Contrast, as WCAG 2.2 computes it.


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def themes():
    style = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    found = []
    for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL):
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]+);", block))
        found.append({k: v if len(v) == 7 else "#" + "".join(c * 2 for c in v[1:]) for k, v in colours.items()})
    return found


def test_contrast_is_computed_right():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("theme", themes(), ids=["light", "dark", "print"])
def test_text_can_be_read(theme):
    for ground in ("back", "panel"):
        for text in ("text", "soft", "good", "part", "bad", "link"):
            assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground)
    assert contrast(theme["mark-text"], theme["mark"]) >= 4.5


def test_plots_can_be_seen_on_every_ground():
    from memsinks.report.audit.charts import COLOURS, OTHER_COLOURS

    assert len(themes()) == 3
    for colour in (*COLOURS.values(), *OTHER_COLOURS):
        for theme in themes():
            assert contrast(colour, theme["back"]) >= 3, colour
