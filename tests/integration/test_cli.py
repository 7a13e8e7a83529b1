"""The command line as a user runs it: files in, files out, exit codes."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from transformers import AutoModelForCausalLM

from memsinks.cli import main

pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")

SMALL = [
    "--hidden", "32", "--layers", "2", "--heads", "2", "--width", "48", "--pool", "64", "--active", "16",
    "--batch-size", "4", "--max-length", "64",
]  # fmt: skip


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
    train = ["train", str(corpus), str(root / "run"), "--repeat", "s1", "s2", "--times", "8", *SMALL]
    name = [n for n in ("s1", "s2", "s3", "s4") if is_training(corpus, n)][:2]
    train[train.index("s1") : train.index("s2") + 1] = name
    assert main(train) == 0
    return root, name


def is_training(corpus, name):
    from memsinks.corpus import Corpus

    opened = Corpus.open(corpus)
    return not opened.is_validation[opened.index(name)]


def test_train_writes_a_run(workspace):
    root, names = workspace
    files = {p.name for p in (root / "run").iterdir()}
    assert {"config.json", "model.safetensors", "sinks.safetensors", "sinks.json", "exposures.parquet"} <= files
    assert {"run.json", "tokenizer.json", "log.jsonl"} <= files
    assert not (root / "run-checkpoints").exists()
    record = json.loads((root / "run" / "run.json").read_text())
    assert record["governed"]["documents"] == len(names)
    assert not any(p.suffix in (".bin", ".pt", ".pkl") for p in (root / "run").iterdir())


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


def test_evaluate(workspace, capsys):
    root, _ = workspace
    arguments = ["evaluate", str(root / "run"), str(root / "corpus"), "--output", str(root / "figures.json")]
    assert main([*arguments, "--prefix", "10", "--suffix", "10", "--max-length", "64"]) == 0
    figures = json.loads((root / "figures.json").read_text())
    assert set(figures["losses"]) == {"repeated", "seen once", "validation"}
    assert set(figures["losses"]["repeated"]) >= {"own", "off", "placebo"}
    assert figures["extraction"]["own"]["documents"] == 2
    assert "validation" in capsys.readouterr().out


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "{corpus}", "{out}", "--pool", "4", "--active", "8"], ["pool", "8"]),
        (["train", "{corpus}", "{out}", "--repeat", "nobody"], ["nobody"]),
        (["train", "{root}/nothing", "{out}"], ["nothing"]),
        (["train", "{corpus}", "{out}", "--resume", *SMALL], ["resume"]),
        (["train", "{corpus}", "{out}", "--model", "{root}/nothing"], ["--model", "nothing"]),
        (["train", "{corpus}", "{out}", "--govern", "sources", "--govern-values", "p9"], ["p9"]),
        (["prepare", "{root}/nothing.jsonl", "--output", "{out}"], ["nothing.jsonl"]),
        (["evaluate", "{root}/nothing", "{corpus}"], ["nothing"]),
        (["export", "{root}/corpus", "{out}"], ["sinks"]),
        (["export", "{run}", "{out}", "--mode", "chosen"], ["--ids"]),
        (["export", "{run}", "{out}", "--mode", "chosen", "--ids", "12"], ["16 hexadecimal"]),
        (["export", "{run}", "{run}"], ["not empty"]),
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
    assert not (root / "out-checkpoints").exists()


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
def test_a_resumed_run_ends_with_the_same_bytes(workspace, capsys):
    root, names = workspace
    run, checkpoints = root / "long", root / "long-checkpoints"
    train = ["train", str(root / "corpus"), str(run), "--repeat", *names, "--times", "6", "--save-steps", "5", *SMALL]
    assert main(train) == 0
    expected = {name: (run / name).read_bytes() for name in ("model.safetensors", "sinks.safetensors")}
    counted = (run / "exposures.parquet").read_bytes()
    found = sorted(checkpoints.glob("checkpoint-*"), key=lambda p: int(p.name.partition("-")[2]))
    for folder in found:
        assert {"model.safetensors", "sinks.safetensors", "exposures.parquet"} <= {p.name for p in folder.iterdir()}
    # As if the process had been killed after the first of the two checkpoints that are kept.
    shutil.rmtree(found[-1])
    shutil.rmtree(run)
    assert main([*train, "--resume"]) == 0
    assert {name: (run / name).read_bytes() for name in expected} == expected
    assert (run / "exposures.parquet").read_bytes() == counted
