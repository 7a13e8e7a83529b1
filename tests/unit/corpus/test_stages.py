"""A preparation goes on after a stop, wherever its tasks run, and gives the same bytes."""

import hashlib
import itertools
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

from memsinks.corpus import Columns, Local, PrepareConfig, pieces, prepare, work
from memsinks.corpus.cluster import Datatrove
from memsinks.corpus.encoder import Encoder
from memsinks.corpus.inputs import find_tables
from memsinks.corpus.split import text_hash as whole_hash
from memsinks.corpus.stages import group, read, sign, tokenise
from memsinks.corpus.stages.parts import part_batches
from memsinks.corpus.work import Work
from memsinks.errors import InputError

CONFIG = PrepareConfig(columns=Columns(source="source"), vocab_size=300, validation_fraction=0.2, shard_documents=7)
TASK_BYTES = 2000


@pytest.fixture
def inputs(tmp_path, write_rows):
    """Three files, with near-copies across them; with small tasks, five tasks of reading and more parts."""
    random = np.random.default_rng(5)
    rows = [
        {"id": f"d{i}", "source": f"s{i % 4}", "text": " ".join(f"w{w}" for w in random.integers(0, 900, 40))}
        for i in range(60)
    ]
    for i in range(0, 60, 10):
        rows[i]["text"] = rows[(i + 33) % 60]["text"] + " again"
    files = [write_rows(rows[:20], "in/a.jsonl"), write_rows(rows[20:25], "in/b.jsonl")]
    datasets.Dataset.from_list(rows[25:]).to_parquet(tmp_path / "in" / "c.parquet", batch_size=9)
    return files[0].parent


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    monkeypatch.setattr(pieces.cut, "__defaults__", (TASK_BYTES,))


@pytest.fixture
def expected(inputs, tmp_path):
    return prepare(inputs, tmp_path / "expected", CONFIG).hash


def test_the_input_is_cut_into_tasks(inputs):
    tasks = pieces.cut(find_tables(inputs))
    assert len(tasks) > 4
    groups = [(p.start, p.stop, p.first) for task in tasks for p in task if p.table.kind == "parquet"]
    assert groups[0][0] == 0
    assert groups[-1][1] == 4
    assert all(a[1] == b[0] for a, b in itertools.pairwise(groups))
    assert [first for *_, first in groups] == [9 * start for start, *_ in groups]


def test_a_dataset_is_cut_by_rows():
    rows = [{"id": str(i), "text": f"row {i} " * 30} for i in range(50)]
    tasks = pieces.cut(find_tables(datasets.Dataset.from_list(rows)))
    assert len(tasks) > 2
    found = [row["id"] for task in tasks for p in task for _, _, row in p.rows(Columns())]
    assert found == [str(i) for i in range(50)]
    numbers = [number for task in tasks for p in task for _, number, _ in p.rows(Columns())]
    assert numbers == list(range(1, 51))


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_do_not_change_a_byte(inputs, tmp_path, expected, workers):
    assert prepare(inputs, tmp_path / "corpus", CONFIG, executor=Local(workers)).hash == expected


@pytest.fixture
def few_tasks(inputs, tmp_path, monkeypatch):
    """Settings with few tasks, each of which is a process that takes seconds to begin; and what they lead to."""
    monkeypatch.setattr(pieces.cut, "__defaults__", (3 * TASK_BYTES,))
    config = replace(CONFIG, shard_documents=40)
    return config, prepare(inputs, tmp_path / "expected", config).hash


def test_datatrove_does_the_tasks(inputs, tmp_path, few_tasks):
    config, expected = few_tasks
    executor = Datatrove(kind="local", workers=2)
    assert prepare(inputs, tmp_path / "corpus", config, executor=executor).hash == expected


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_process_is_that_of_the_task(tmp_path, inputs, workers):
    (inputs / "bad.jsonl").write_text('{"id": "x", "source": "s", "text": ""}\n')
    with pytest.raises(InputError, match=r"bad\.jsonl:1: column 'text' is empty"):
        prepare(inputs, tmp_path / "corpus", CONFIG, executor=Local(workers))
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [(read, "text_hash"), (group, "likenesses"), (tokenise, "train_tokenizer"), (Encoder, "encode")],
)
def test_finished_tasks_are_not_done_again(inputs, tmp_path, expected, monkeypatch, module, name):
    whole, calls = getattr(module, name), []

    def fails_later(*arguments, **options):
        calls.append(name)
        if len(calls) > 3 or module is group or name == "train_tokenizer":
            raise RuntimeError("stopped here")
        return whole(*arguments, **options)

    monkeypatch.setattr(module, name, fails_later)
    with pytest.raises(RuntimeError, match="stopped here"):
        prepare(inputs, tmp_path / "corpus", CONFIG, executor=Local(1))
    work = Work(tmp_path / "corpus")
    if name == "text_hash":
        assert not work.path.exists()  # no task was finished, so there is nothing to keep
    monkeypatch.undo()
    monkeypatch.setattr(pieces.cut, "__defaults__", (TASK_BYTES,))
    before = {p: p.stat().st_mtime_ns for p in work.path.rglob("*.parquet")}
    again = []
    ours = work.path / "read"
    monkeypatch.setattr(read, "text_hash", lambda text: again.append(text) or whole_hash(text))
    assert prepare(inputs, tmp_path / "corpus", CONFIG, executor=Local(1)).hash == expected
    if any(p.is_relative_to(ours) for p in before):
        assert not again
    assert not work.path.exists()


KILLED = """
import sys
from memsinks.corpus import Columns, Local, PrepareConfig, pieces, prepare
pieces.cut.__defaults__ = ({bytes},)
config = PrepareConfig(columns=Columns(source="source"), vocab_size=300, validation_fraction=0.2, shard_documents=7)
print("ready", flush=True)
prepare(sys.argv[1], sys.argv[2], config, executor=Local(2))
"""


@pytest.mark.parametrize("moment", range(5))
def test_killed_at_any_moment_it_goes_on(inputs, tmp_path, expected, moment):
    output = tmp_path / "corpus"
    command = [sys.executable, "-c", KILLED.format(bytes=TASK_BYTES), str(inputs), str(output)]
    wait = np.random.default_rng(moment).uniform(0, 4)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout.readline() == b"ready\n"
    time.sleep(wait)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    if output.exists():  # it was quicker
        shutil.rmtree(output)
    assert prepare(inputs, output, CONFIG, executor=Local(1)).hash == expected
    assert not Work(output).path.exists()


def test_killed_while_it_clears_up_it_begins_anew(inputs, tmp_path, expected, monkeypatch):
    output, whole = tmp_path / "corpus", shutil.rmtree

    def killed(folder, **options):
        if (reports := sorted(Path(folder).glob("read/*/report.json"))) and output.exists():
            reports[0].unlink()
            raise KeyboardInterrupt
        whole(folder, **options)

    with monkeypatch.context() as patch:
        patch.setattr(work.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(inputs, output, CONFIG, executor=Local(1))
    shutil.rmtree(output)
    assert prepare(inputs, output, CONFIG, executor=Local(1)).hash == expected
    assert [path.name for path in tmp_path.iterdir() if "preparing" in path.name] == []


def stopped(inputs, output, monkeypatch, config=CONFIG):
    """Leave a preparation that was stopped after reading."""
    with monkeypatch.context() as patch:
        patch.setattr(group, "likenesses", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(inputs, output, config, executor=Local(1))


def test_a_changed_file_is_refused(inputs, tmp_path, expected, monkeypatch):
    output = tmp_path / "corpus"
    stopped(inputs, output, monkeypatch)
    file = inputs / "a.jsonl"
    text, times = file.read_text(), (file.stat().st_atime, file.stat().st_mtime)
    file.write_text(text.replace("w1", "w2"))
    os.utime(file, times)
    with pytest.raises(InputError, match=r"a\.jsonl: changed since it was read.*remove .*\.corpus\.preparing"):
        prepare(inputs, output, CONFIG)
    # The same content at another time (a copy, a clock that was wrong) is the same file.
    file.write_text(text)
    os.utime(file, (0, 0))
    assert prepare(inputs, output, CONFIG).hash == expected


def test_the_log_says_why_it_stopped(inputs, tmp_path, monkeypatch):
    stopped(inputs, tmp_path / "corpus", monkeypatch)
    assert "stopped: division by zero" in (Work(tmp_path / "corpus").path / "prepare.log").read_text()
    corpus = prepare(inputs, tmp_path / "corpus", CONFIG)
    log = (corpus.path / "prepare.log").read_text()
    assert log.index("stopped") < log.index("grouping: done") < log.index("finished")


def test_another_dataset_is_not_gone_on_with(tmp_path, monkeypatch):
    def rows(word):
        return datasets.Dataset.from_list(
            [{"id": str(i), "source": "s", "text": f"{word} {i} {i * i}"} for i in range(9)]
        )

    stopped(rows("one"), tmp_path / "corpus", monkeypatch)
    with pytest.raises(InputError, match="other inputs"):
        prepare(rows("two"), tmp_path / "corpus", CONFIG)
    assert len(prepare(rows("one"), tmp_path / "corpus", CONFIG)) == 9


def test_files_of_one_name_have_their_own_hashes(tmp_path, write_rows):
    files = [write_rows([{"id": f"d{n}", "source": "s", "text": f"text {n}"}], f"{n}/data.jsonl") for n in "ab"]
    corpus = prepare(files, tmp_path / "corpus", replace(CONFIG, validation_fraction=0.0))
    found = [(entry["name"], entry["sha256"]) for entry in corpus.manifest["inputs"]]
    assert found == [("data.jsonl", hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]


def test_other_settings_and_inputs_are_refused(inputs, tmp_path, monkeypatch):
    output = tmp_path / "corpus"
    stopped(inputs, output, monkeypatch)
    other = PrepareConfig(columns=Columns(source="source"), vocab_size=310, validation_fraction=0.2, shard_documents=7)
    with pytest.raises(InputError, match="unfinished preparation with other settings"):
        prepare(inputs, output, other)
    (inputs / "d.jsonl").write_text('{"id": "new", "source": "s", "text": "new"}\n')
    with pytest.raises(InputError, match="unfinished preparation with other inputs"):
        prepare(inputs, output, CONFIG)


def test_two_preparations_of_one_corpus(inputs, tmp_path):
    work = Work(tmp_path / "corpus")
    with work.held(), pytest.raises(InputError, match="another process is preparing it"):
        prepare(inputs, tmp_path / "corpus", CONFIG)


def test_an_error_under_datatrove_is_that_of_the_task(tmp_path, write_rows):
    file = write_rows([{"id": "x", "source": "s", "text": ""}])
    with pytest.raises(InputError, match=r"data\.jsonl:1: column 'text' is empty"):
        prepare(file, tmp_path / "corpus", CONFIG, executor=Datatrove(kind="local"))
    assert not (tmp_path / "corpus").exists()


def test_keyed_ids_travel_by_environment_only(inputs, tmp_path, monkeypatch):
    config = replace(CONFIG, id_key=b"the-secret")
    with pytest.raises(InputError, match="name the environment variable"):
        prepare(inputs, tmp_path / "corpus", config, executor=Datatrove(kind="local"))
    sent = []

    def keep(executor, step, stage, logs):
        sent.append(pickle.loads(pickle.dumps(step)))
        raise RuntimeError("not now")

    monkeypatch.setattr(Datatrove, "_executor", keep)
    with pytest.raises(RuntimeError, match="not now"):
        prepare(inputs, tmp_path / "corpus", config, executor=Datatrove(kind="local", key_variable="SECRET_OF_TEST"))
    assert b"the-secret" not in pickle.dumps(sent[0])
    for secret in ("another", ""):
        monkeypatch.setenv("SECRET_OF_TEST", secret)
        with pytest.raises(InputError, match="SECRET_OF_TEST of this node is not the secret"):
            sent[0](None, 0, 1)
    monkeypatch.setenv("SECRET_OF_TEST", "the-secret")
    sent[0](None, 0, 1)
    assert Work(tmp_path / "corpus").is_done(read.STAGE, 0)


SBATCH = """#!{python}
import os, re, subprocess, sys
script = open(sys.argv[-1]).read()
first, last = map(int, re.search(r"--array=(\\d+)-(\\d+)", script + " --array=0-0").groups())
for task in range(first, last + 1):
    environment = os.environ | {{"SLURM_ARRAY_TASK_ID": str(task), "SLURM_JOB_ID": "7", "SLURM_NODELIST": "this"}}
    subprocess.run(["bash", sys.argv[-1]], env=environment, stdout=open({log!r}, "a"), stderr=subprocess.STDOUT)
print("Submitted batch job 7")
"""
SRUN = '#!/bin/bash\nwhile [[ "$1" == -* ]]; do [[ "$1" == -n ]] && shift; shift; done\nexec "$@"\n'


@pytest.mark.long
def test_slurm_scripts_do_the_tasks(inputs, tmp_path, few_tasks, monkeypatch):
    """A stand-in for Slurm runs the array of jobs that would be submitted, one after the other."""
    config, expected = few_tasks
    programs = tmp_path / "bin"
    programs.mkdir()
    log = tmp_path / "slurm.log"
    for name, text in (
        ("sbatch", SBATCH.format(python=sys.executable, log=str(log))),
        ("srun", SRUN),
        ("squeue", "#!/bin/bash\n"),
        ("scontrol", "#!/bin/bash\necho this\n"),
    ):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    executor = Datatrove(kind="slurm", partition="cpu")
    found = prepare(inputs, tmp_path / "corpus", config, executor=executor)
    assert found.hash == expected, log.read_text()


def test_a_part_is_read_a_row_group_at_a_time(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(read, "_GROUP_ROWS", 3)
    sizes = []

    def watch(job, task):
        for name in (None, ["text"]):
            sizes.append([len(batch) for batch in part_batches(job, 0, 1000, name)])
            small = [batch["text"].to_pylist() for batch in part_batches(job, 0, 2, name)]
            assert {len(texts) for texts in small} == {1, 2}
            whole = [batch["text"].to_pylist() for batch in part_batches(job, 0, 1000, name)]
            assert [*itertools.chain(*small)] == [*itertools.chain(*whole)]
        raise InputError("seen enough")

    monkeypatch.setattr(sign, "run", watch)
    with pytest.raises(InputError, match="seen enough"):
        prepare(inputs, tmp_path / "corpus", CONFIG, executor=Local(1))
    for found in sizes:
        assert len(found) > 1
        assert set(found[:-1]) == {3}


def test_jobs_of_slurm_are_cancelled_with_the_command(inputs, tmp_path, monkeypatch):
    programs, cancelled = tmp_path / "bin", tmp_path / "cancelled"
    programs.mkdir()
    for name, text in (
        ("sbatch", 'echo "Submitted batch job 7"'),
        ("squeue", "echo 7"),
        ("scancel", f'echo "$@" > {cancelled}'),
    ):
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def interrupted(job_id):
        raise KeyboardInterrupt

    monkeypatch.setattr("memsinks.corpus.cluster._in_queue", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(inputs, tmp_path / "corpus", CONFIG, executor=Datatrove(kind="slurm", partition="cpu"))
    assert cancelled.read_text() == "7\n"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "slurm"}, "Slurm needs the partition"),
        ({"kind": "local", "workers": 0}, "workers is 0"),
    ],
)
def test_bad_executors(settings, message):
    with pytest.raises(InputError, match=message):
        Datatrove(**settings)
    with pytest.raises(InputError, match="workers is 0"):
        Local(0)


def test_rows_that_cannot_be_used_are_listed(tmp_path, write_rows):
    rows = [{"id": f"d{i}", "source": "s", "text": f"one text {i} of several words", "n": i} for i in range(12)]
    rows[2]["text"] = None
    rows[3]["id"] = "d1"
    rows[5]["text"] = "a NUL \0 here"
    rows[6]["text"] = "half \ud800"
    del rows[7]["source"]
    file = write_rows(rows)
    lines = file.read_bytes().split(b"\n")
    lines[8] = b'{"id": "d8", "source": "s", "text": "caf\xe9 au lait"}'
    lines[9] = b"not json"
    file.write_bytes(b"\n".join(lines))
    config = replace(CONFIG, bad_rows="reject")
    corpus = prepare(file, tmp_path / "corpus", config)
    assert sorted(corpus.documents) == sorted(f"d{i}" for i in (0, 1, 4, 10, 11))
    rejects = [json.loads(line) for line in (corpus.path / "rejects.jsonl").read_text().splitlines()]
    assert corpus.manifest["rejected"] == len(rejects) == 7
    reasons = {reject["where"].rpartition(":")[2]: reject["why"] for reject in rejects}
    for line, reason in {
        "3": "null",
        "4": "already used",
        "6": "NUL character",
        "7": "surrogate",
        "8": "no column 'source'",
        "9": "not valid UTF-8",
        "10": "invalid JSON",
    }.items():
        assert reason in reasons[line]
    assert "**Rejected: 7 rows**" in (corpus.path / "card.md").read_text()
    table = pq.read_table(corpus.path / "groups.parquet")
    assert table["document"].to_pylist() == corpus.documents
    with pytest.raises(InputError, match="all 1 rows were rejected"):
        prepare(write_rows([{"id": "x"}], "only.jsonl"), tmp_path / "none", config)


def test_a_document_without_tokens_is_rejected(tmp_path, write_rows):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"?": 0, "a": 1, "b": 2}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").save_pretrained(tmp_path / "words")
    texts = ["a", "a b a", "b b a", "b a b"]
    file = write_rows([{"id": str(i), "source": "s", "text": t} for i, t in enumerate(texts)])
    config = replace(CONFIG, tokenizer=tmp_path / "words", validation_fraction=0.0)
    with pytest.raises(InputError, match=r"data\.jsonl:1: document '0' becomes 1 token"):
        prepare(file, tmp_path / "corpus", config)
    shutil.rmtree(Work(tmp_path / "corpus").path)
    corpus = prepare(file, tmp_path / "corpus", replace(config, bad_rows="reject"))
    assert corpus.documents == ["1", "2", "3"]
    assert corpus.manifest["rejected"] == 1


@pytest.mark.long
# A warning of Ray's that becomes an error is lost in a thread of datatrove, which then waits for ever.
@pytest.mark.filterwarnings("ignore")
def test_two_nodes_of_ray_do_the_tasks(inputs, tmp_path, few_tasks):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    config, expected = few_tasks
    node = {"num_cpus": 1, "memory": 1 << 31}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        cluster.add_node(**node)
        ray.init(address=cluster.address, log_to_driver=False)
        assert len([node for node in ray.nodes() if node["Alive"]]) == 2
        executor = Datatrove(kind="ray", workers=2, memory_gb=1)
        assert prepare(inputs, tmp_path / "corpus", config, executor=executor).hash == expected
    finally:
        ray.shutdown()
        cluster.shutdown()
