import json

import pytest

from memsinks.corpus import Columns, Corpus, PrepareConfig, prepare


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Corpus:
    """Thirty documents of two sources, of 10 to about 100 tokens; documents 0 and 1 are copies."""
    folder = tmp_path_factory.mktemp("stream")
    rows = [
        {
            "id": f"doc-{i:02d}",
            "source": "odd" if i % 2 else "even",
            "text": f"Text {max(i, 1)}: " + " ".join(f"w{(i * 5 + j) % 17}" for j in range(1 if i < 2 else 3 + i)),
            "private": i % 5 == 0,
            "owner": None if i == 4 else f"o{i % 4}",
        }
        for i in range(30)
    ]
    for row in rows[:2]:
        row["text"] = "The same words in two documents."
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = Columns(source="source", metadata=("private", "owner"))
    config = PrepareConfig(
        columns=columns, groups=None, vocab_size=290, validation_fraction=0.1, seed=3, shard_documents=8
    )
    corpus = prepare(folder / "rows.jsonl", folder / "corpus", config)
    assert not corpus.is_validation[:5].any()  # the tests count on these
    return corpus
