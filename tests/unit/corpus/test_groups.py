"""Groups and their evidence in a prepared corpus, on planted copies, near-copies, clauses and templates."""

import json
import pickle
import random
import re

import numpy as np
import pytest

from memsinks import ids
from memsinks.cli import main
from memsinks.corpus import Columns, Corpus, GroupConfig, PrepareConfig, prepare, read_documents, why
from memsinks.data import story_file
from memsinks.errors import InputError

CONFIG = PrepareConfig(columns=Columns(source="source"), vocab_size=512, identity="group", validation_fraction=0.1)
CLAUSE = (
    "The parties agree that any notice under this agreement shall be given in writing and delivered by hand or sent by "
    "registered post to the address set out above, and shall be deemed received on the second business day after it "
    "was posted, whatever the receiver may say of it."
)
LETTER = """Dear {name}, we write to you about your account number {number}. We thank you for the long years in which
you have been a valued member of our reading club. From the first of {month} the yearly fee will be {fee} pounds, which
we will collect from your bank as before. If you do not agree, please tell us within thirty days from the date of this
letter, by telephone or by post, and we will close your account without any cost to you. Your last order was {order}."""


@pytest.fixture(scope="module")
def planted():
    """Fifty stories of two sources, and planted documents that are like one of them or like each other."""
    found = [d.text for d, _ in zip(read_documents([story_file()], Columns()), range(60), strict=False)]
    rows = [{"id": f"story-{i:02d}", "source": f"house-{i % 2}", "text": text} for i, text in enumerate(found[:50])]
    base = found[0]
    words = base.split()
    edited = [w if i % 23 else "gently" for i, w in enumerate(words)]
    planted = {
        "copy": base.upper().replace("\n", "  "),
        "reformatted": "* " + re.sub(r"([.!?]) ", r"\1\n\n* ", base),
        "recased": re.sub(r"[,.\"!?]", "", base.title()),
        "edited": " ".join(edited),
    }
    rows += [{"id": name, "source": "copyist", "text": text} for name, text in planted.items()]
    for i, story in enumerate(found[50:52]):
        half = len(story) // 2
        text = f"{story[:half]} {CLAUSE} {story[half:]}"
        rows.append({"id": f"contract-{i}", "source": f"law-{i}", "text": text})
    for i, story in enumerate(found[52:56]):
        text = LETTER.format(
            name=story.split()[3],
            number=8123 * (i + 7),
            month=f"month{i}",
            fee=30 + i,
            order=" ".join(story.split()[:30]),
        )
        rows.append({"id": f"letter-{i}", "source": "club", "text": text})
    return rows


@pytest.fixture(scope="module")
def corpus(planted, tmp_path_factory):
    return prepared(planted, tmp_path_factory.mktemp("groups"))


def prepared(rows, folder, config=CONFIG):
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return prepare(folder / "rows.jsonl", folder / "corpus", config)


def test_near_copies_are_explained(corpus):
    found = why(corpus, "edited")
    kinds = {m.document: m.kind for m in found.members}
    assert set(kinds) == {"story-00", "copy", "reformatted", "recased", "edited"}
    assert sorted(kinds.values()).count("representative") == 1
    assert found.sources == ["copyist", "house-0"]
    assert all(m.jaccard >= 0.7 for m in found.members if m.kind == "near")
    assert found.sequence_id == found.group_id
    assert corpus.content_ids[corpus.index("edited")] != corpus.content_ids[corpus.index("story-00")]
    pair = why(corpus, "copy")
    assert pair.same_content == []  # its tokens are others, but its text is one with that of the story
    assert {s.document for s in pair.shared} == {s.document for s in why(corpus, "story-00").shared} >= {"recased"}
    assert {m.kind for m in pair.members if m.document in ("copy", "story-00")} <= {"copy", "representative", "near"}


def test_a_copied_clause_is_reported_and_its_documents_stay_apart(corpus):
    found = why(corpus, "contract-0")
    assert [m.document for m in found.members] == ["contract-0"]
    assert [(s.document, s.source, s.same_group) for s in found.shared] == [("contract-1", "law-1", False)]
    assert len(CLAUSE.split()) <= found.shared[0].words < len(CLAUSE.split()) + 5
    assert " ".join(CLAUSE.split()[:-1]) in " ".join(found.shared[0].text.split())
    assert found.shared[0].words / found.words < 0.5


def test_a_template_makes_a_family(corpus):
    found = why(corpus, "letter-2")
    assert {m.document for m in found.members} == {f"letter-{i}" for i in range(4)}
    assert {m.kind for m in found.members} <= {"representative", "template", "near"}
    assert {s.document for s in found.shared} <= {f"letter-{i}" for i in range(4)}


def test_unlike_stories_stay_apart(corpus):
    stories = [corpus.index(f"story-{i:02d}") for i in range(50)]
    assert len(set(corpus.group_ids[stories].tolist())) == 50
    assert corpus.group_ids[corpus.index("contract-0")] != corpus.group_ids[corpus.index("contract-1")]


def test_no_group_is_split_between_training_and_validation(corpus):
    for group in set(corpus.group_ids.tolist()):
        assert len(set(corpus.is_validation[corpus.group_ids == group].tolist())) == 1


def test_groups_do_not_depend_on_the_order_of_the_input(corpus, planted, tmp_path):
    shuffled = planted.copy()
    random.Random(3).shuffle(shuffled)
    other = prepared(shuffled, tmp_path)
    for column in ("group_ids", "content_ids", "sequence_ids"):
        ours = dict(zip(corpus.documents, getattr(corpus, column).tolist(), strict=True))
        assert ours == dict(zip(other.documents, getattr(other, column).tolist(), strict=True))
    for name in ("edited", "letter-1", "contract-1"):
        a, b = why(corpus, name), why(other, name)
        assert a.representative == b.representative
        assert sorted(m.document for m in a.members) == sorted(m.document for m in b.members)
        assert a.shared == b.shared


def test_new_documents_leave_groups_as_they_are(corpus, planted, tmp_path):
    more = [{"id": "new", "source": "club", "text": "A wholly new text about nothing that was said before, ever."}]
    other = prepared([*planted, *more], tmp_path)
    assert all(other.group_ids[other.index(d)] == g for d, g in zip(corpus.documents, corpus.group_ids, strict=True))


def test_without_groups_only_copies_share_one(planted, tmp_path):
    settings = PrepareConfig(columns=Columns(source="source"), vocab_size=512, groups=None, validation_fraction=0.1)
    corpus = prepared(planted, tmp_path, settings)
    assert len(set(corpus.group_ids.tolist())) == len(planted) - 1
    assert why(corpus, "copy").representative in ("copy", "story-00")
    assert not why(corpus, "contract-0").shared


def test_the_card_lists_groups_that_span_sources(corpus):
    card = json.loads((corpus.path / "card.json").read_text())
    assert card["documents"] == len(corpus)
    assert [row["sources"] for row in card["groups"]["spanning_sources"]] == [["copyist", "house-0"]]
    assert card["groups"]["groups"] == 2
    assert card["groups"]["copies"] + card["groups"]["near"] + card["groups"]["template"] == 4 + 3
    assert sum(row["bytes"] for row in card["sources"]) == card["bytes"]
    text = (corpus.path / "card.md").read_text()
    assert "**Spanning sources: 1 group**" in text
    assert card["inputs"][0]["sha256"] in text


def test_the_run_chooses_which_ids_key_the_sinks(corpus):
    by = {kind: Corpus.open(corpus.path, ids=kind) for kind in ("content", "group", "source")}
    assert (by["group"].sequence_ids == corpus.sequence_ids).all()
    assert by["group"].ids is None  # what it was prepared with
    assert (by["content"].sequence_ids == corpus.content_ids).all()
    assert by["source"].sequence_ids[0] == ids.source_id(corpus.sources[0])
    assert (pickle.loads(pickle.dumps(by["source"])).sequence_ids == by["source"].sequence_ids).all()
    with pytest.raises(InputError, match="no metadata column 'topic'"):
        Corpus.open(corpus.path, ids="column:topic")


def test_keyed_ids(planted, tmp_path, tmp_path_factory):
    key = b"a secret"
    settings = PrepareConfig(
        columns=Columns(source="source"), vocab_size=512, identity="group", validation_fraction=0.1, id_key=key
    )
    keyed = prepared([row | {"topic": "t"} for row in planted], tmp_path, settings)
    plain = prepared(planted, tmp_path_factory.mktemp("plain"))
    assert not np.isin(keyed.group_ids, plain.group_ids).any()
    assert (keyed.source_ids == [ids.source_id(s, key=key) for s in keyed.sources]).all()
    sources = Corpus.open(keyed.path, ids="source")
    assert (sources.sequence_ids == keyed.source_ids).all()
    with pytest.raises(InputError, match=r"keyed, and the key is not at hand.*--ids column:topic"):
        Corpus.open(keyed.path, ids="column:topic")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"similarity": 0.0}, "similarity is 0.0"),
        ({"template": 1.5}, "template is 1.5"),
        ({"passage_words": 7}, "passage_words is 7; it must be at least 8"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError, match=message):
        GroupConfig(**settings)


def test_the_command_explains(corpus, capsys):
    assert main(["why", str(corpus.path), "edited"]) == 0
    shown = capsys.readouterr().out
    assert "near-duplicate: Jaccard index 0." in shown
    assert "The group spans sources (copyist, house-0)" in shown
    assert main(["why", str(corpus.path), "contract-1"]) == 0
    shown = capsys.readouterr().out
    assert "It is like no other document." in shown
    assert "kept apart" in shown
    assert main(["why", str(corpus.path), "letter-0", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["format"] == "memsinks-why"
    assert record["group_id"] == ids.format_id(int(corpus.group_ids[corpus.index("letter-0")]))
    assert main(["why", str(corpus.path), "leter-0"]) == 2
    assert "did you mean 'letter-0'" in capsys.readouterr().err
