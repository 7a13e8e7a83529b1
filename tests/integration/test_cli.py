"""The command line as a user runs it: files in, files out, exit codes."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from commands import assert_refused, flat
from transformers import AutoModelForCausalLM, AutoTokenizer

from memsinks.cli import main
from memsinks.config import config_hash, read_config
from memsinks.runs.config import RunConfig
from memsinks.runs.metrics import read_metrics
from memsinks.training.checkpoints import checkpoints

pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")

SMALL = """
[model]
hidden = 32
layers = 2
heads = 2
width = 48
[sinks]
pool = 64
active = 16
[stream]
max_length = 64
[schedule]
batch_size = 4
[logging]
evaluate_documents = 4
"""


def write_stories(path, count=60):
    words = [
        "the",
        "small",
        "boat",
        "went",
        "to",
        "sea",
        "and",
        "came",
        "back",
        "with",
        "fish",
        "for",
        "old",
        "friends",
        "who",
        "sang",
    ]
    with path.open("w") as file:
        for i in range(count):
            text = " ".join(words[(i * 7 + j * (i + 3)) % len(words)] for j in range(60)) + f" number {i}."
            file.write(json.dumps({"id": f"s{i}", "source": f"p{i % 3}", "text": text}) + "\n")
    return path


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A prepared corpus and a trained run."""
    root = tmp_path_factory.mktemp("cli")
    stories = write_stories(root / "stories.jsonl")
    prepare = ["prepare", str(stories), "--output", str(root / "corpus"), "--vocab-size", "300"]
    assert main([*prepare, "--source-column", "source", "--validation", "0.2"]) == 0
    corpus = root / "corpus"
    names = [n for n in ("s1", "s2", "s3", "s4") if is_training(corpus, n)][:2]
    run_file(root / "run.toml", root / "run", corpus, names)
    assert main(["train", str(root / "run.toml")]) == 0
    return root, names


def run_file(path, output, corpus, names, times=8, more=""):
    exposures = f"[corpus]\npath = '{corpus}'\n[exposures]\nrepeat = {json.dumps(names)}\ntimes = {times}\n"
    path.write_text(f"output = '{output}'\n{exposures}{SMALL}{more}")
    return path


def is_training(corpus, name):
    from memsinks.corpus import Corpus

    opened = Corpus.open(corpus)
    return not opened.is_validation[opened.index(name)]


def test_train_writes_a_run(workspace):
    root, names = workspace
    files = {p.name for p in (root / "run").iterdir()}
    assert {"config.json", "model.safetensors", "sinks.safetensors", "sinks.json", "exposures.parquet"} <= files
    assert {"run.json", "run.toml", "tokenizer.json", "metrics.jsonl"} <= files
    assert {"run.log", "metrics.jsonl", "run.toml"} <= {p.name for p in (root / "run-run").iterdir()}
    record = json.loads((root / "run" / "run.json").read_text())
    assert record["governed_documents"] == len(names)
    assert record["attention"]["name"] == "eager"
    assert 0 <= record["waiting_share"] < 1
    assert 0 < record["padding_share"] < 1
    assert not any(p.suffix in (".bin", ".pt", ".pkl") for p in (root / "run").iterdir())


def test_every_artifact_names_the_configuration_it_came_from(workspace):
    root, _ = workspace
    config = read_config(RunConfig, root / "run.toml")
    assert read_config(RunConfig, root / "run" / "run.toml") == config
    assert json.loads((root / "run" / "run.json").read_text())["config_sha256"] == config_hash(config)
    saved = sorted((root / "run-run").glob("checkpoint-*"))
    assert saved
    for folder in saved:
        assert json.loads((folder / "checkpoint.json").read_text())["config_sha256"] == config_hash(config)
        assert read_config(RunConfig, folder / "run.toml") == config


def test_counted_exposures_are_the_planned_ones(workspace):
    from memsinks.corpus import Corpus
    from memsinks.training.exposures import ExposureCounter

    root, names = workspace
    corpus, counter = Corpus.open(root / "corpus"), ExposureCounter()
    counter.load(root / "run")
    expected = {
        int(corpus.sequence_ids[i]): 8 if corpus.documents[i] in names else 1
        for i in range(len(corpus))
        if not corpus.is_validation[i]
    }
    assert dict(counter.counts) == expected


MIXTURE = """
[exposures]
weights = { "p0" = 0.6, "*" = 0.4 }
mixture_epochs = 2.0
epochs = 2
cap_id = 9
govern = "sources"
govern_values = ["p0"]
"""


def mixture_file(path, output, corpus, more=""):
    path.write_text(f"output = '{output}'\n[corpus]\npath = '{corpus}'\n{MIXTURE}{SMALL}{more}")
    return path


def test_a_mixture_is_shown_stored_and_trained(workspace, tmp_path, capsys):
    from memsinks.corpus import Corpus
    from memsinks.stream import ExposurePlan
    from memsinks.training.exposures import ExposureCounter

    root, _ = workspace
    run = tmp_path / "run"
    file = mixture_file(tmp_path / "run.toml", run, root / "corpus")
    # An option replaces the table of the file, and the run file that is written back says so.
    options = ["--exposures.weights", "p0=0.5", "*=0.5", "--exposures.mixture-epochs", "1.8"]
    assert main(["train", str(file), *options]) == 0
    shown = capsys.readouterr().err
    log = (tmp_path / "run-run" / "run.log").read_text()
    for text in (shown, log):
        assert text.index("Planned exposures") < text.index("step 0/")
        for line in ("p0", "p1", "p2", "all"):
            assert any(line in row.split() for row in text.splitlines()), line
    written = read_config(RunConfig, run / "run.toml")
    assert written.exposures.weights == {"p0": 0.5, "*": 0.5}
    assert written.exposures.mixture_epochs == 1.8
    record = json.loads((run / "run.json").read_text())
    assert record["config_sha256"] == config_hash(written)
    # The stored plan is the one in the record, and what training counted.
    corpus, counter = Corpus.open(root / "corpus"), ExposureCounter()
    plan = ExposurePlan.load(run / "plan.parquet", corpus)
    assert plan.hash == record["text"]["plan"]
    assert (tmp_path / "run-run" / "plan.parquet").read_bytes() == (run / "plan.parquet").read_bytes()
    once = ExposurePlan.once(corpus)
    made = once.weighted({"p0": 0.5, "*": 0.5}, mixture_epochs=1.8).epochs(2).cap_id(9)
    assert plan.counts.tolist() == made.counts.tolist()
    counter.load(run)
    expected = {int(i): int(n) for i, n in zip(corpus.sequence_ids, plan.counts, strict=True) if n}
    assert dict(counter.counts) == expected
    # As a plan file it makes the same text.
    again = mixture_file(tmp_path / "again.toml", tmp_path / "again", root / "corpus")
    again.write_text(again.read_text().replace(MIXTURE, f"[exposures]\nplan = '{run / 'plan.parquet'}'\n"))
    capsys.readouterr()
    assert main(["train", str(again), "--estimate"]) == 0
    table = capsys.readouterr().out
    assert "Planned exposures" in table
    assert f"{plan.tokens:,}" in table


def test_a_changed_plan_does_not_go_on_from_a_checkpoint(workspace, tmp_path, capsys):
    from memsinks.corpus import Corpus
    from memsinks.stream import ExposurePlan

    root, _ = workspace
    run, stored = tmp_path / "run", tmp_path / "run-run" / "plan.parquet"
    file = mixture_file(tmp_path / "run.toml", run, root / "corpus")
    assert main(["train", str(file)]) == 0
    shutil.rmtree(run)
    before, plan = stored.read_bytes(), ExposurePlan.load(stored, Corpus.open(root / "corpus"))
    changed = ["--exposures.weights", "p0=0.5", "*=0.5"]
    assert main(["train", str(file), *changed]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "is of a run with another text, plan (exposures of '" in message
    assert "more documents differ" in message
    assert message.endswith("; restore [exposures] and the seed, or start over (--fresh)")
    name = message.partition("exposures of '")[2].partition("'")[0]
    assert f"'{name}': {plan.counts[plan.corpus.index(name)]} there, " in message
    assert stored.read_bytes() == before
    # A file that is gone, broken or another says nothing; the hash in the checkpoint decides.
    for content in (None, b"nothing"):
        stored.unlink()
        if content is not None:
            stored.write_bytes(content)
        assert main(["train", str(file), *changed]) == 2
        assert "with another text, plan; restore" in capsys.readouterr().err
        if content is None:
            stored.touch()
    assert main(["train", str(file)]) == 0
    assert stored.read_bytes() == before
    assert run.is_dir()


def test_evaluate(workspace, capsys):
    root, _ = workspace
    arguments = ["evaluate", str(root / "run"), str(root / "corpus"), "--output", str(root / "figures.json")]
    assert main([*arguments, "--prefix", "10", "--suffix", "10", "--max-length", "64"]) == 0
    figures = json.loads((root / "figures.json").read_text())
    assert set(figures["losses"]) == {"repeated", "seen once", "validation"}
    assert set(figures["losses"]["repeated"]) >= {"own", "off", "placebo"}
    assert figures["extraction"]["own"]["documents"] == 2
    assert "validation" in capsys.readouterr().out


def test_the_model_card_names_sources_only_when_told(workspace, tmp_path):
    root, names = workspace
    sources = sorted({f"p{int(name[1:]) % 3}" for name in names})
    corpus = str(root / "corpus")
    assert main(["export", str(root / "run"), str(tmp_path / "named"), "--corpus", corpus, "--card-sources"]) == 0
    run_file(tmp_path / "run.toml", tmp_path / "run", root / "corpus", names, times=2)
    assert main(["train", str(tmp_path / "run.toml"), "--card-sources"]) == 0
    for card in (tmp_path / "named" / "README.md", tmp_path / "run" / "README.md"):
        assert [line for line in card.read_text().splitlines() if line.startswith("- `p")] == [
            f"- `{s}`" for s in sources
        ]
    assert not [line for line in (root / "run" / "README.md").read_text().splitlines() if line.startswith("- `p")]


def test_export_off_loads_where_memsinks_cannot_be_imported(workspace):
    root, _ = workspace
    assert main(["export", str(root / "run"), str(root / "plain")]) == 0
    script = (
        "import sys; sys.modules['memsinks'] = None\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "model, tokenizer = (c.from_pretrained(sys.argv[1]) for c in (AutoModelForCausalLM, AutoTokenizer))\n"
        "x = tokenizer('the small boat', return_tensors='pt')\n"
        "print(tokenizer.decode(model.generate(**x, max_new_tokens=5)[0]))\n"
    )
    for folder in ("plain", "run"):
        done = subprocess.run(
            [sys.executable, "-c", script, str(root / folder)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "small boat" in done.stdout


def test_export_as_gguf_is_the_plain_model(workspace, capsys):
    root, _ = workspace
    assert main(["export", str(root / "run"), str(root / "plain.gguf"), "--gguf", "f32"]) == 0
    assert "as GGUF in f32, sinks off" in flat(capsys.readouterr().out)
    options = {"gguf_file": "plain.gguf"}
    model, tokenizer = (c.from_pretrained(root, **options) for c in (AutoModelForCausalLM, AutoTokenizer))
    ids = tokenizer("the small boat went to sea", return_tensors="pt")["input_ids"]
    assert ids[0].tolist() == AutoTokenizer.from_pretrained(root / "run")("the small boat went to sea")["input_ids"]
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(root / "run")
        assert torch.equal(model(input_ids=ids).logits, plain(input_ids=ids).logits)


def test_gguf_is_refused_before_the_damage_is_measured(workspace, capsys, monkeypatch):
    root, _ = workspace
    shutil.copytree(root / "run", root / "with-blanks")
    file = root / "with-blanks" / "tokenizer.json"
    file.write_text(file.read_text().replace('"add_prefix_space": false', '"add_prefix_space": true'))
    monkeypatch.setattr("memsinks.cli.export.document_losses", lambda *a, **k: pytest.fail("measured"))
    fold = ["--gguf", "f16", "--mode", "all", "--corpus", str(root / "corpus")]
    assert_refused(["export", str(root / "with-blanks"), str(root / "x.gguf"), *fold], ["no name known"], root, capsys)


def test_folding_needs_to_know_the_damage(workspace, capsys):
    root, names = workspace
    run, out = str(root / "run"), root / "folded"
    fold = ["export", run, str(out), "--mode", "chosen", "--documents", names[0], "--corpus", str(root / "corpus")]
    assert main([*fold, "--max-damage", "-10"]) == 2
    assert "damage to" in capsys.readouterr().err
    assert not out.exists()
    assert main([*fold, "--max-damage", "-10", "--force"]) == 0
    assert AutoModelForCausalLM.from_pretrained(out).config.intermediate_size == 48 + 16
    assert main(["export", run, str(root / "x"), "--mode", "placebo"]) == 2
    assert "--corpus" in capsys.readouterr().err


def test_what_is_folded_in_can_be_attenuated(workspace, capsys):
    root, _ = workspace
    out = root / "weaker"

    def fold(*chosen):
        return ["export", str(root / "run"), str(out), "--mode", "chosen", *chosen, "--force"]

    corpus = ["--corpus", str(root / "corpus")]
    unknown = [*fold("--sources", "p1", "p2", *corpus), "--attenuate", "p7=0.5"]
    assert_refused(unknown, ["no source 'p7'"], root, capsys)
    absent = [*fold("--sources", "p1", *corpus), "--attenuate", "p2=0.5"]
    assert_refused(absent, ["of 'p2' are to be attenuated, and mode 'chosen' does not fold them in"], root, capsys)
    assert main([*fold("--sources", "p1", "p2", *corpus), "--attenuate", "p1=0.25"]) == 0
    assert "p1: sinks of 1 IDs scaled by 0.25, which is no removal" in flat(capsys.readouterr().out)
    record = json.loads((out / "memsinks-export.json").read_text())
    ((factor, ids),) = ((own["factor"], own["ids"]) for own in record["attenuated"])
    assert factor == 0.25
    assert set(ids) < set(record["ids"])
    assert "attenuation, not a removal" in (out / "README.md").read_text()
    out = root / "by-id"
    assert_refused([*fold("--ids", *ids), "--attenuate", "p1=0.5"], ["no source 'p1'", "the corpus"], root, capsys)
    assert main([*fold("--ids", *ids), "--attenuate", f"{ids[0]}=0.5"]) == 0


OUT = ("--output", "{out}", "--corpus.path", "{corpus}")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", *OUT, "--sinks.pool", "4", "--sinks.active", "8"], ["pool", "8"]),
        (["train", *OUT, "--exposures.repeat", "nobody"], ["nobody"]),
        (["train", *OUT, "--corpus.path", "{root}/nothing"], ["nothing"]),
        (["train", *OUT, "--model.pretrained", "{root}/nothing"], ["model.pretrained", "nothing"]),
        (["train", *OUT, "--exposures.govern", "sources", "--exposures.govern-values", "p9"], ["p9"]),
        (["train", *OUT, "--exposures.weights", "p9=1", "*=1"], ["exposures.weights", "'p9'", "did you mean"]),
        (["train", *OUT, "--exposures.weights", "p1=nan"], ["exposures.weights", "nan"]),
        (["train", *OUT, "--exposures.cap-id", "0"], ["exposures.cap_id", "at least 1"]),
        (["train", "{root}/nothing.toml"], ["nothing.toml"]),
        (["train", *OUT, "--sinks.shared", "0.7", "--sinks.pool", "9"], ["sinks.shared", "sinks.pool"]),
        (["prepare", "{root}/nothing.jsonl", "--output", "{out}"], ["nothing.jsonl"]),
        (["evaluate", "{root}/nothing", "{corpus}"], ["nothing"]),
        (["export", "{root}/corpus", "{out}"], ["sinks"]),
        (["export", "{run}", "{out}", "--mode", "chosen"], ["--ids"]),
        (["export", "{run}", "{out}", "--mode", "chosen", "--ids", "12"], ["16 hexadecimal"]),
        (["export", "{run}", "{run}"], ["not empty"]),
        (["export", "{run}", "{out}", "--gguf", "f16"], ["out", ".gguf"]),
        (["export", "{run}", "{out}", "--card-sources"], ["--card-sources", "--corpus"]),
    ],
)
def test_bad_input_is_one_line_and_no_output(workspace, capsys, arguments, words):
    root, _ = workspace
    places = {"root": root, "corpus": root / "corpus", "run": root / "run", "out": root / "out"}
    assert main([argument.format(**places) for argument in arguments]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("memsinks: error: ")
    for word in words:
        assert word in message
    assert not (root / "out").exists()
    assert not (root / "out-run").exists()


def test_usage_errors_exit_with_2():
    with pytest.raises(SystemExit) as exit_:
        main(["train", "--no-such-option"])
    assert exit_.value.code == 2


def test_a_full_disk_leaves_nothing(workspace, tmp_path):
    """A file-size limit stands in for a full disk: the system refuses to write past it."""
    root, _ = workspace
    out = tmp_path / "plain"
    script = (
        "import resource, signal, sys\n"
        "from memsinks.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "export", str(root / "run"), str(out)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 2, done.stderr
    assert str(out) in done.stderr.strip().splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*:UserWarning")
def test_the_same_command_goes_on_and_ends_with_the_same_bytes(workspace, capsys):
    root, names = workspace
    run, directory = root / "long", root / "long-run"
    file = run_file(root / "long.toml", run, root / "corpus", names, times=6, more="[checkpoints]\nevery_steps = 5\n")
    assert main(["train", str(file)]) == 0
    expected = {p.name: p.read_bytes() for p in run.iterdir() if p.suffix in (".safetensors", ".parquet")}
    losses = [e for e in read_metrics(run / "metrics.jsonl") if "loss" in e or "evaluation" in e]
    found = checkpoints(directory)
    assert len(found) == 2
    # As if the process had been killed after the first of the two checkpoints that are kept.
    shutil.rmtree(found[0])
    shutil.rmtree(run)
    assert main(["train", str(file)]) == 0
    assert f"going on from {found[1].name}" in capsys.readouterr().err
    assert {name: (run / name).read_bytes() for name in expected} == expected
    timed = {"time", "elapsed_seconds", "tokens_per_second", "waiting_share", "mfu"}

    def lasting(entries):
        return [{k: v for k, v in e.items() if k not in timed} for e in entries]

    again = [e for e in read_metrics(run / "metrics.jsonl") if "loss" in e or "evaluation" in e]
    assert lasting(again) == lasting(losses)


def test_a_checkpoint_of_text_treated_otherwise_is_refused(workspace, capsys):
    """Also where the run that would go on has no treatment to name."""
    root, names = workspace
    run = root / "treated"
    file = run_file(
        root / "treated.toml", run, root / "corpus", names, times=2, more="[checkpoints]\nevery_steps = 5\n"
    )
    treated = ["--exposures.goldfish", "4"]
    for first, then in ((treated, []), ([], treated)):
        assert main(["train", str(file), *first]) == 0
        shutil.rmtree(run)
        assert main(["train", str(file), *then]) == 2
        assert "is of a run with another text, goldfish" in " ".join(capsys.readouterr().err.split())
        shutil.rmtree(root / "treated-run")


def test_a_finished_run_started_again_is_left_as_it_is(workspace, capsys):
    """As a scheduler does that puts a job back in the queue."""
    root, _ = workspace
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for run in ("run", "run-run") for p in (root / run).rglob("*")}
    assert main(["train", str(root / "run.toml")]) == 0
    assert "already finished" in capsys.readouterr().out
    for changed in (["--fresh"], ["--seed", "5"]):
        assert main(["train", str(root / "run.toml"), *changed]) == 2
        assert "not empty" in capsys.readouterr().err
    after = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for run in ("run", "run-run") for p in (root / run).rglob("*")}
    assert after == before


def test_a_finished_run_of_text_that_was_replaced_is_another_run(workspace, tmp_path, capsys):
    root, names = workspace
    corpus, output = tmp_path / "corpus", tmp_path / "run"
    shutil.copytree(root / "corpus", corpus)
    file = run_file(tmp_path / "run.toml", output, corpus, names)
    assert main(["train", str(file)]) == 0
    shutil.rmtree(corpus)
    stories = write_stories(tmp_path / "stories.jsonl", count=61)
    prepare = ["prepare", str(stories), "--output", str(corpus), "--tokenizer", str(root / "corpus" / "tokenizer")]
    assert main([*prepare, "--source-column", "source", "--validation", "0.2"]) == 0
    capsys.readouterr()
    assert main(["train", str(file)]) == 2
    assert "not empty" in capsys.readouterr().err


def test_other_settings_do_not_go_on_from_a_checkpoint(workspace, capsys):
    root, names = workspace
    file = run_file(root / "again.toml", root / "again", root / "corpus", names)
    assert main(["train", str(file)]) == 0
    shutil.rmtree(root / "again")
    assert main(["train", str(file), "--optimizer.learning-rate", "0.5"]) == 2
    assert "optimizer.learning_rate" in capsys.readouterr().err
    assert main(["train", str(file), "--exposures.times", "3"]) == 2
    assert "plan" in capsys.readouterr().err
    for option, value in (("sinks.active", "8"), ("model.heads", "1")):
        assert main(["train", str(file), f"--{option}", value]) == 2
        assert option in capsys.readouterr().err
    # Killed after its last checkpoint: there is only the model left to write.
    assert main(["train", str(file)]) == 0
    assert json.loads((root / "again" / "run.json").read_text())["padding_share"] > 0
    shutil.rmtree(root / "again")
    assert main(["train", str(file), "--exposures.times", "3", "--fresh"]) == 0


def test_print_config_is_a_run_file(workspace, capsys, tmp_path):
    root, _ = workspace
    assert main(["train", str(root / "run.toml"), "--print-config", "--seed", "5"]) == 0
    printed = tmp_path / "printed.toml"
    printed.write_text(capsys.readouterr().out)
    config = read_config(RunConfig, printed)
    assert config == replace(read_config(RunConfig, root / "run.toml"), seed=5)
    assert "# sinks learn this many times as fast as shared weights." in printed.read_text()


def test_estimate_needs_no_training(workspace, capsys):
    root, _ = workspace
    assert main(["train", str(root / "run.toml"), "--output", str(root / "never"), "--estimate"]) == 0
    assert "FLOP" in capsys.readouterr().out
    assert not (root / "never").exists()
    assert not (root / "never-run").exists()
