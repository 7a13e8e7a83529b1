"""The model card says what is true of the files beside it, and never takes the place of somebody else's."""

import json
import re

import numpy as np
import pytest
from families import sink_model
from huggingface_hub import ModelCard

import memsinks
from memsinks.checkpoint.card import CARD, CardFacts, is_ours, names_sources, render, write_card
from memsinks.checkpoint.lineage import Lineage, Removal, Stage
from memsinks.errors import CheckpointError

STAGE = Stage(corpus="c", ids=None, plan="p", governed="g", config="s", steps=10, tokens=12_345)
REMOVAL = Removal(
    id="r-1", time="2026-01-31T12:00:00+00:00", everything=False, ids=2, documents=3, before="a", after="b", plan="p"
)


def ids(*values) -> np.ndarray:
    return np.array(values, dtype=np.uint64)


def lineage() -> Lineage:
    return Lineage().with_stage(STAGE, ids(1, 2, 3, 4), np.ones(4, dtype=np.int64))


def facts(**changes) -> CardFacts:
    model = sink_model("llama")
    made = {"config": model.sink_config, "table": model.sink_allocation, "govern": "sources", "governed": 40}
    return CardFacts(**{**made, "lineage": lineage(), **changes})


def flat(card: str) -> str:
    return " ".join(card.split())


def test_it_states_the_pool_the_policy_and_the_limits():
    text = flat(render(facts()))
    for statement in (
        "a pool of 12 further neurons",
        "Governed text switched on 4 of them",
        "Allocation `hashed`: IDs choose from one pool, so that two of them can share sinks.",
        "Policy `sources` in the last training: documents of sources that the run names: 40 documents.",
        "1 training over 12,345 tokens; 4 sequence IDs trained with sinks and can still be removed.",
        "*Sinks off* means the model without its sinks. Any ordinary loader gets that",
        "memsinks.load(folder)",
        "take away what shared weights learned from the text",
        "Removals so far: none.",
    ):
        assert statement in text


def test_its_metadata_is_what_the_hub_reads():
    data = ModelCard(render(facts())).data
    assert data.library_name == "transformers"
    assert data.tags == ["memsinks", "memorization-sinks"]
    assert "sinks-folded-in" in ModelCard(render(facts(folded=("all", 0)))).data.tags
    assert ModelCard(render(CardFacts())).data.tags == ["memsinks"]


def test_the_code_in_it_compiles():
    blocks = re.findall(r"```python\n(.*?)```", render(facts()), re.DOTALL)
    assert blocks
    for block in blocks:
        compile(block, "card", "exec")


def test_removals_are_named_and_their_ids_are_counted_out():
    after = lineage().with_removal(REMOVAL, ids(1, 2, 2), ids(7, 8, 9))
    text = flat(render(facts(lineage=after)))
    assert "2 sequence IDs trained with sinks and can still be removed." in text
    assert "- `r-1`, 2026-01-31T12:00:00+00:00: the sinks of 2 IDs, 3 documents" in text
    assert "none" not in text


@pytest.mark.parametrize(
    ("folded", "says"),
    [
        (("off", 0), "an export with sinks off: a stock checkpoint without any sinks"),
        (("chosen", 3), "sinks folded into its MLPs (those of 3 IDs)"),
        (("all", 0), "cannot be removed from this copy"),
    ],
)
def test_an_export_says_what_is_in_its_weights(folded, says):
    text = flat(render(facts(folded=folded)))
    assert says in text
    assert "memsinks.load" not in text


def test_a_model_without_sinks_promises_nothing():
    text = render(CardFacts())
    assert "Nothing that it learned can be removed from it." in text
    assert "memsinks forget" not in text


def test_sources_are_named_only_when_asked(tmp_path):
    write_card(tmp_path, facts())
    assert not names_sources(tmp_path / CARD)
    write_card(tmp_path, facts(sources=["ash\n# ford", "birch"]))
    assert names_sources(tmp_path / CARD)
    # A name cannot begin a line of its own.
    assert "- `ash # ford`\n- `birch`\n" in (tmp_path / CARD).read_text()


def test_a_card_of_somebody_else_stays(tmp_path):
    model = sink_model("llama")
    memsinks.save(model, tmp_path / "run")
    card = tmp_path / "run" / CARD
    assert is_ours(card)
    card.write_text("# Ours\n")
    memsinks.save(model, tmp_path / "run")
    memsinks.export(model, tmp_path / "run")
    assert card.read_text() == "# Ours\n"
    assert not write_card(tmp_path / "run", facts())
    assert not [path.name for path in (tmp_path / "run").iterdir() if path.name.endswith(".tmp")]


def test_a_file_that_is_no_text_is_not_ours(tmp_path):
    (tmp_path / CARD).write_bytes(b"\xff\xfe")
    assert not is_ours(tmp_path / CARD)
    assert not write_card(tmp_path, facts())


def test_saving_again_after_a_removal_says_so(tmp_path):
    model = sink_model("llama")
    memsinks.save(model, tmp_path / "run")
    memsinks.remove(model, [5, 6])
    memsinks.save(model, tmp_path / "run")
    assert "Removed so far: the sinks of 2 IDs." in (tmp_path / "run" / CARD).read_text()


def test_an_export_takes_from_its_origin_what_it_was_trained_on(tmp_path):
    model = sink_model("llama")
    memsinks.save(model, tmp_path / "run")
    lineage().write(tmp_path / "run")
    (tmp_path / "run" / "run.toml").write_text('[exposures]\ngovern = "repeated"\n')
    (tmp_path / "run" / "run.json").write_text(json.dumps({"governed_documents": 7}))
    memsinks.export(model, tmp_path / "out", mode="all", origin=tmp_path / "run")
    text = flat((tmp_path / "out" / CARD).read_text())
    assert "Policy `repeated` in the last training: documents that were planned at least twice: 7 documents." in text
    record = json.loads((tmp_path / "out" / "memsinks-export.json").read_text())
    assert record["sinks_sha256"] == json.loads((tmp_path / "run" / "sinks.json").read_text())["tensors"]["sha256"]
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(CheckpointError, match="governed_documents"):
        memsinks.export(model, tmp_path / "other", origin=tmp_path / "run")
    assert not (tmp_path / "other").exists()
