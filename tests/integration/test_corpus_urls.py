"""From text to a trained model with the corpus behind a URL, as a user runs it."""

import json

import fsspec
import pytest

from memsinks.cli import main
from memsinks.config import config_toml, parse_config, read_config
from memsinks.corpus import storage
from memsinks.runs.config import RunConfig
from memsinks.runs.run import corpus_of_run

pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")

RUN = """
output = '{output}'
[corpus]
path = '{corpus}'
[model]
hidden = 16
layers = 2
heads = 2
width = 40
[exposures]
govern = "sources"
govern_values = ["p0"]
[sinks]
pool = 60
active = 0.3
[stream]
max_length = 32
[schedule]
steps = 2
[logging]
live = false
"""
URL = "memory://bucket/corpus"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """One text, prepared to a folder and to a URL."""
    root = tmp_path_factory.mktemp("urls")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMSINKS_CACHE", str(root / "cache"))
        with (root / "rows.jsonl").open("w") as file:
            for i in range(30):
                text = f"Number {i}: " + " ".join(f"w{i * j % 13}" for j in range(14))
                file.write(json.dumps({"id": f"d{i}", "source": f"p{i % 4}", "text": text}) + "\n")
        for output in (str(root / "corpus"), URL):
            options = ["--output", output, "--source-column", "source", "--vocab-size", "290"]
            assert main(["prepare", str(root / "rows.jsonl"), *options]) == 0
        yield root
    fsspec.filesystem("memory").rm("/bucket", recursive=True)


def run_file(root, name, corpus):
    (root / f"{name}.toml").write_text(RUN.format(output=root / name, corpus=corpus))
    return root / f"{name}.toml"


def test_a_run_from_the_url_is_that_from_the_folder(root):
    for name, corpus in (("near", root / "corpus"), ("far", URL)):
        assert main(["train", str(run_file(root, name, corpus))]) == 0
    near, far = (json.loads((root / name / "run.json").read_text()) for name in ("near", "far"))
    assert near["text"] == far["text"]
    assert (root / "near" / "model.safetensors").read_bytes() == (root / "far" / "model.safetensors").read_bytes()
    assert (root / "near" / "sinks.safetensors").read_bytes() == (root / "far" / "sinks.safetensors").read_bytes()
    # Started again it is the same run, and its own file names the URL.
    assert main(["train", str(root / "far.toml")]) == 0
    assert read_config(RunConfig, root / "far" / "run.toml").corpus.path == URL
    assert corpus_of_run(root / "far", URL).hash == far["text"]["corpus"]


@pytest.mark.parametrize(
    ("command", "word"), [("why", '"group_id"'), ("plan", "survivor"), ("train", "Planned exposures")]
)
def test_commands_say_the_same_of_both(root, capsys, command, word):
    said = []
    for corpus in (str(root / "corpus"), URL):
        arguments = {
            "why": ["why", corpus, "d3", "--json"],
            "plan": ["plan", "--corpus.path", corpus, "--exposures.govern", "all", "--sinks.pool", "60"],
            "train": ["train", str(run_file(root, "estimate", "nowhere")), "--corpus.path", corpus, "--estimate"],
        }[command]
        assert main(arguments) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert word in said[0]


def test_an_estimate_needs_no_corpus_behind_the_url(root, capsys):
    arguments = ["train", str(run_file(root, "early", "memory://bucket/later")), "--estimate"]
    # The small default model takes its vocabulary from the corpus.
    assert main(arguments) == 2
    assert "memory://bucket/later: no such corpus" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "path"),
    [("s3://b/c", "s3://b/c"), ("file:///b//c", "file:///b//c"), ("b//c", storage.place("b/c")), ("/b", None)],
)
def test_urls_and_paths_stay_what_they_are_in_a_run_file(root, given, path):
    config = parse_config(RunConfig, {"corpus": {"path": given}})
    assert config.corpus.path == (storage.place(given) if path is None else path)
    assert type(config.corpus.path) is type(storage.place(given))
    (root / "written.toml").write_text(config_toml(config))
    assert read_config(RunConfig, root / "written.toml") == config
