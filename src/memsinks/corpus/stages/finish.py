"""The last stage: shards, tokenizer, groups, passages, rejected rows and the corpus card in one folder."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from memsinks import ids
from memsinks.corpus.card import card, card_text
from memsinks.corpus.encoder import FOLDER, load_encoder
from memsinks.corpus.files import explain
from memsinks.corpus.manifest import write_manifest
from memsinks.corpus.stages import group, read, settle, tokenise
from memsinks.corpus.stages.job import Job
from memsinks.corpus.stages.parts import facts, parts, reports
from memsinks.errors import InputError

STAGE = "corpus"
GROUPS, PASSAGES, REJECTS = "groups.parquet", "passages.parquet", "rejects.jsonl"


def run(job: Job, task: int, settling: int) -> None:
    """Write the corpus, with what the round ``settling`` decided; the manifest comes last."""
    with job.work.task(STAGE, task) as folder:
        _write(job, folder, settling)


def deliver(job: Job, log: Path, output: Path) -> None:
    """Give the finished corpus its name, with the log beside it.

    Raises:
        InputError: it cannot be moved.
    """
    folder = job.work.folder(STAGE, 0)
    try:
        shutil.copyfile(log, folder / log.name)
        folder.replace(output)
    except OSError as error:
        raise InputError(explain(output, error)) from error


def _write(job: Job, folder: Path, settling: int) -> None:
    shards = _shards(job, folder, settling)
    trained = job.work.folder(tokenise.TRAIN, settling)
    shutil.copytree(trained / FOLDER, folder / "tokenizer")
    known, decided, ids_ = facts(job), settle.settled(job, settling), tokenise.written(job, settling)
    kept = ids_["length"].to_numpy() > 0
    groups = _groups(job, folder, kept)
    rejected = _rejects(job, folder, settling)
    lengths = ids_["length"].to_numpy()[kept]
    validation = decided["validation"].to_numpy()[kept]
    sources = known.table["source"].filter(pa.array(kept)).to_pylist()
    content = {
        "config": {**job.config.record(job.columns), **_tokenizer_record(job, load_encoder(trained).size)},
        "inputs": _inputs(job),
        "splits": _splits(lengths, validation),
        "sources": _sources(job, sources, lengths, validation, ids_["sequence_id"].to_numpy()[kept]),
        "metadata": {name: str(kind) for name, kind in settle.metadata_types(job, settling).items()},
        "rejected": rejected,
        "shards": shards,
    }
    sizes = known.table["bytes"].to_numpy()[kept]
    summary = card(folder, content, groups, sources, sizes, validation)
    (folder / "card.json").write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "card.md").write_text(card_text(summary), encoding="utf-8")
    write_manifest(folder, content)


def _shards(job: Job, folder: Path, settling: int) -> list[str]:
    names: list[str] = []
    for part in range(len(parts(job))):
        for file in sorted(job.work.folder(f"{tokenise.STAGE}-{settling}", part).glob("*.arrow")):
            names.append(f"shard-{len(names):05d}.arrow")
            try:  # a second name for the file: if this stage fails, the next attempt still finds it
                os.link(file, folder / names[-1])
            except OSError:
                shutil.copyfile(file, folder / names[-1])
    return names


def _groups(job: Job, folder: Path, kept: np.ndarray) -> pa.Table:
    """The groups of the documents that are in the corpus, and the passages that these share."""
    found = job.work.folder(group.STAGE, 0)
    groups = pq.read_table(found / GROUPS).filter(pa.array(kept))
    pq.write_table(groups, folder / GROUPS)
    passages = pq.read_table(found / PASSAGES)
    if not kept.all():
        names = groups["document"]
        both = pc.and_(pc.is_in(passages["document"], names), pc.is_in(passages["other"], names))
        passages = passages.filter(both)
    pq.write_table(passages, folder / PASSAGES)
    return groups


def _rejects(job: Job, folder: Path, settling: int) -> int:
    work = job.work
    files = [work.folder(read.STAGE, task) for task in range(len(job.reading))]
    files += [work.folder(settle.STAGE, settling)]
    files += [work.folder(f"{tokenise.STAGE}-{settling}", part) for part in range(len(parts(job)))]
    text = "".join((file / REJECTS).read_text(encoding="utf-8") for file in files)
    if text:
        (folder / REJECTS).write_text(text, encoding="utf-8")
    return text.count("\n")


def _tokenizer_record(job: Job, size: int) -> dict[str, Any]:
    given = job.config.tokenizer
    return {"tokenizer": "trained" if given is None else Path(given).name, "vocab_size": size}


def _inputs(job: Job) -> list[dict[str, Any]]:
    """Names, sizes and hashes of the input files; a dataset without files has a name only.

    With a key the hashes are keyed too: a file may hold a single document, whose hash would confirm its presence.
    """
    algorithm = "sha256" if job.config.id_key is None else "hmac_sha256"
    found: list[dict[str, Any]] = []
    for pieces, report in zip(job.reading, reports(job), strict=True):
        for piece in pieces:
            if piece.start:
                continue
            files = [(name, report["inputs"][str(place)]) for name, place in piece.table.files()]
            found += [{"name": name, "bytes": known["bytes"], algorithm: known["digest"]} for name, known in files]
            if not files:
                found.append({"name": piece.table.name})
    return found


def _splits(lengths: np.ndarray, validation: np.ndarray) -> dict[str, dict[str, int]]:
    return {
        name: {"documents": int(chosen.sum()), "tokens": int(lengths[chosen].sum())}
        for name, chosen in (("train", ~validation), ("validation", validation))
    }


def _sources(
    job: Job, sources: list[str | None], lengths: np.ndarray, validation: np.ndarray, sequence_ids: np.ndarray
) -> list[dict[str, Any]]:
    """Documents and tokens of each source, in the order of first appearance."""
    table: dict[str | None, dict[str, Any]] = {}
    for source, length, held_out, sequence_id in zip(
        sources, lengths.tolist(), validation.tolist(), sequence_ids.tolist(), strict=True
    ):
        row = table.setdefault(source, {"source": source, "documents": 0, "validation_documents": 0, "tokens": 0})
        row["documents"] += 1
        row["validation_documents"] += int(held_out)
        row["tokens"] += length
        if job.identity.kind == "source":
            row["sequence_id"] = ids.format_id(sequence_id)
    return list(table.values())
