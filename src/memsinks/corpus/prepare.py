"""From input documents to a corpus folder: read, sign, group, settle, tokenise, finish, in that order.

Every stage consists of tasks, which write into a folder beside the corpus and run wherever an executor puts them. What
is finished stays there when the preparation is stopped, and the same call goes on from it.
"""

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from memsinks.corpus import cache, storage
from memsinks.corpus.corpus import Corpus
from memsinks.corpus.executors import Executor, Local
from memsinks.corpus.files import check_output
from memsinks.corpus.inputs import Inputs, find_tables
from memsinks.corpus.pieces import cut
from memsinks.corpus.settings import PrepareConfig
from memsinks.corpus.shards import shard_schema
from memsinks.corpus.stages import finish, group, read, settle, sign, tokenise
from memsinks.corpus.stages.job import Job, Task
from memsinks.corpus.stages.parts import list_parts, parts, reports
from memsinks.corpus.tokenizer import load_tokenizer
from memsinks.corpus.upload import Upload
from memsinks.corpus.work import LOGS, Work
from memsinks.errors import InputError

LOG, UPLOADING = "prepare.log", "uploading"


def prepare(
    inputs: Inputs,
    output: Path | str,
    config: PrepareConfig | None = None,
    *,
    executor: Executor | None = None,
    progress: bool = False,
) -> Corpus:
    """Tokenise documents into a corpus folder.

    The input is read once. Documents belong to one group if their texts differ at most in case and blanks, if they are
    near-duplicates, or if they share a passage and most of their words in runs. The validation split holds out whole
    groups; with identity ``column:NAME`` it holds out all documents with the same value instead. With identity
    ``source`` it does not: other chapters of a trained source are legitimate validation text. The split depends on the
    texts and ``seed`` alone, not on the order of the input or on ``shard_documents``. A tokenizer is trained on the
    training split only.

    Stopped, by an error or from outside, it leaves what is finished in ``.OUTPUT.preparing``, and the same call goes on
    from there. A corpus that goes to a URL is made in the cache of this machine (:mod:`memsinks.corpus.cache`) and then
    uploaded, its manifest last.

    Args:
        inputs: paths, URLs or a dataset, see :func:`memsinks.corpus.read_documents`.
        output: the folder to make, or its URL; it is a corpus only when it is complete.
        config: settings; default :class:`PrepareConfig`.
        executor: where the tasks run; default :class:`memsinks.corpus.executors.Local`.
        progress: show progress bars on standard error.

    Returns:
        The new corpus, open.

    Raises:
        InputError: the input, a setting or ``output`` cannot be used, or the disk is full; ``output`` is not made.
    """
    config, output = config or PrepareConfig(), storage.place(output)
    work, executor = Work(output), executor or Local()
    if isinstance(output, Path):
        check_output(output)
    else:
        _upload(work, output).check()
    job = Job(work, config, cut(find_tables(inputs)))
    shard_schema(dict.fromkeys(settle.stored_columns(job), pa.null()))
    if isinstance(executor, Local):
        executor.warm(job)
    if config.tokenizer is not None:
        load_tokenizer(config.tokenizer)
    with work.held():
        run = _Run(job, executor, progress)
        try:
            work.begin(_record(job))
            run.stages()
        except BaseException as error:
            run.stopped(error)
            kept = any(work.is_done(read.STAGE, task) for task in range(len(job.reading)))
            if not kept and not (work.path / LOGS).exists():
                work.remove()
            raise
        work.remove()
    return Corpus.open(output, verify=False)


@dataclass
class _Run:
    job: Job
    executor: Executor
    progress: bool
    bars: Progress = field(init=False)

    def stages(self) -> None:
        """All of them, as far as they are not done."""
        columns = (TextColumn("{task.description:22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), disable=not self.progress) as self.bars:
            _check_inputs(self.job)
            self._stage("reading", read.STAGE, read.run, range(len(self.job.reading)))
            list_parts(self.job)
            every_part = range(len(parts(self.job)))
            if self.job.config.groups is not None:
                self._stage("signing", sign.STAGE, sign.run, every_part)
            self._once("grouping", group.STAGE, group.run)
            settling = 0
            while True:
                self._once("splitting", settle.STAGE, settle.run, settling)
                self._once("training the tokenizer", tokenise.TRAIN, tokenise.train, settling)
                stage = f"{tokenise.STAGE}-{settling}"
                self._stage("tokenising", stage, functools.partial(tokenise.run, settling=settling), every_part)
                contents = tokenise.written(self.job, settling)
                decided = settle.settled(self.job, settling)
                ids, used = contents["content_id"].to_numpy(), contents["length"].to_numpy() > 0
                held_out = decided["validation"].to_numpy()
                if not np.isin(ids[used & held_out], ids[used & ~held_out]).any():
                    break
                # Texts that normalisation keeps apart can have equal tokens if the tokenizer loses something: link
                # these documents too, and split again. Every round joins components, so this ends.
                self._log(f"round {settling}: a held-out document has the tokens of a training one; splitting again")
                settle.link_contents(self.job, settling, ids)
                settling += 1
            self._once("writing", finish.STAGE, functools.partial(finish.run, settling=settling))
            self._log("finished")
            self._deliver()

    def _deliver(self) -> None:
        work = self.job.work
        if isinstance(work.output, Path):
            finish.deliver(self.job, work.path / LOG, work.output)
            return
        upload = _upload(work, work.output)
        bar = self.bars.add_task("uploading", total=len(upload.files()))
        upload.run(functools.partial(self.bars.advance, bar))
        cache.keep(upload.folder)

    def stopped(self, error: BaseException) -> None:
        """Say in the log why it ends here."""
        with contextlib.suppress(OSError):  # a full disk has been told of already
            self._log(f"stopped: {error or type(error).__name__}")

    def _once(self, what: str, stage: str, task: Task, number: int = 0) -> None:
        """A stage of one task, which needs all documents together: it stays in this process."""
        self._stage(what, stage, task, [number], Local(1))

    def _stage(
        self, what: str, stage: str, task: Task, numbers: Sequence[int], executor: Executor | None = None
    ) -> None:
        pending = [number for number in numbers if not self.job.work.is_done(stage, number)]
        bar = self.bars.add_task(what, total=len(numbers), completed=len(numbers) - len(pending))
        if pending:
            self._log(f"{what}: {len(pending)} of {len(numbers)} tasks to do")
            done = functools.partial(self.bars.advance, bar)
            (executor or self.executor).run(self.job, stage, task, pending, done)
            self._log(f"{what}: done")

    def _log(self, message: str) -> None:
        line = f"{datetime.now(UTC).isoformat(timespec='seconds')} {message}\n"
        with (self.job.work.path / LOG).open("a", encoding="utf-8") as log:
            log.write(line)


def _upload(work: Work, url: str) -> Upload:
    return Upload(url, work.folder(finish.STAGE, 0), log=work.path / LOG, begun=work.path / UPLOADING)


def _record(job: Job) -> dict[str, object]:
    config = job.config
    tokenizer = None if config.tokenizer is None else str(config.tokenizer)
    inputs = [[p.table.label, p.table.fingerprint(), p.bytes, p.start, p.stop] for task in job.reading for p in task]
    return {
        "settings": {**config.record(job.columns), "tokenizer": tokenizer, "vocab_size": config.vocab_size},
        "inputs": inputs,
    }


def _check_inputs(job: Job) -> None:
    """Refuse to go on if a file that was read is not the same any more.

    A file whose time alone changed is read and hashed again.
    """
    work = job.work
    finished = [task for task in range(len(job.reading)) if work.is_done(read.STAGE, task)]
    all_reports = reports(job, finished)
    digests = {
        place: found["digest"] for report in all_reports for place, found in report["inputs"].items() if found["digest"]
    }
    for report in all_reports:
        for name, found in report["inputs"].items():
            place = storage.place(name)
            same = storage.exists(place) and storage.size(place) == found["bytes"]
            if same and storage.state(place) != found["state"]:
                digest = digests.get(name)
                same = digest is None or storage.digest(place, job.config.id_key) == digest
            if not same:
                raise InputError(
                    f"{place}: changed since it was read for this preparation; restore it, or remove {work.path} to "
                    "start anew"
                )
