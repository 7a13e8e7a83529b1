"""Stage 4: what only all documents together can tell: names used twice, types of columns, and what is held out.

It runs again, as another round, where tokens show that a held-out document is the copy of a training one.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from memsinks.corpus.metadata import MetadataTypes
from memsinks.corpus.readers import name_taken
from memsinks.corpus.shards import RESERVED
from memsinks.corpus.split import components, hold_out
from memsinks.corpus.stages import group
from memsinks.corpus.stages.job import Job
from memsinks.corpus.stages.parts import Facts, facts, parts, reports
from memsinks.errors import InputError

STAGE = "settle"


DECIDED = pa.schema({"kept": pa.bool_(), "validation": pa.bool_(), "group_id": pa.uint64(), "shared_id": pa.uint64()})
"""What is decided of each document, and what else tokenising needs: of documents with one name only the first is kept,
and validation is held out."""


def run(job: Job, task: int) -> None:
    """Settle for the first time (task 0), or again (task 1, 2, …) with the content IDs of all rounds before.

    Raises:
        InputError: a name occurs twice, columns have several types, or no split is possible.
    """
    known = facts(job)
    if not len(known):
        rejected = sum(report["rejected"] for report in reports(job))
        also = f", all {rejected} rows were rejected" if rejected else ""
        raise InputError(f"the input holds no document{also}; give at least one file with a row in it")
    kept, taken = _names(job, known)
    types = _metadata_types(job)
    contents = [np.load(_contents(job, before)) for before in range(task)]
    validation = np.zeros(len(known), dtype=bool)
    validation[kept] = _split(job, known, kept, contents)
    groups = pq.read_table(job.work.folder(group.STAGE, 0) / "groups.parquet", columns=["group_id"])["group_id"]
    columns = [pa.array(kept), pa.array(validation), groups, known.table["shared_id"]]
    decided = pa.table(dict(zip(DECIDED.names, columns, strict=True)), schema=DECIDED)
    with job.work.task(STAGE, task) as folder:
        for part in range(len(parts(job))):
            pq.write_table(decided[known.of_part(part)], folder / f"part-{part:05d}.parquet")
        pq.write_table(pa.schema(types).empty_table(), folder / "types.parquet")
        lines = [json.dumps(line, ensure_ascii=False) + "\n" for line in taken]
        (folder / "rejects.jsonl").write_text("".join(lines), encoding="utf-8")


def settled(job: Job, task: int, part: int | None = None) -> pa.Table:
    """What a round decided, of the documents of a part or of all: the columns of :data:`DECIDED`."""
    wanted = range(len(parts(job))) if part is None else [part]
    return pa.concat_tables(pq.read_table(job.work.folder(STAGE, task) / f"part-{p:05d}.parquet") for p in wanted)


def metadata_types(job: Job, task: int) -> dict[str, pa.DataType]:
    """The Arrow type of each stored metadata column, as a round found them."""
    schema = pq.read_schema(job.work.folder(STAGE, task) / "types.parquet")
    return dict(zip(schema.names, schema.types, strict=True))


def _metadata_types(job: Job) -> dict[str, pa.DataType]:
    types = MetadataTypes(job.columns.stored())
    for report in reports(job):
        types.add(report["metadata"])
    return {name: kind for name, kind in types.arrow_types().items() if name in stored_columns(job)}


def stored_columns(job: Job) -> tuple[str, ...]:
    """Metadata that shards hold; a column that is read for its IDs alone may have a name that shards need."""
    asked = job.config.columns.stored()
    return tuple(name for name in job.columns.stored() if name in asked or name not in RESERVED)


def link_contents(job: Job, task: int, content_ids: np.ndarray) -> None:
    """Keep the content IDs of a round, for the split of the next."""
    np.save(_contents(job, task), content_ids)


def _contents(job: Job, task: int) -> Path:
    return job.work.path / f"content-ids-{task}.npy"


def _names(job: Job, known: Facts) -> tuple[np.ndarray, list[dict[str, str]]]:
    names, places = known.table["name"].to_pylist(), known.table["where"].to_pylist()
    kept, taken = np.ones(len(known), dtype=bool), []
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        if (before := first.setdefault(name, i)) != i:
            error = name_taken(name, places[i], places[before])
            if job.config.bad_rows == "stop":
                raise error
            kept[i] = False
            taken.append({"where": places[i], "why": str(error)})
    return kept, taken


def _split(job: Job, known: Facts, kept: np.ndarray, contents: list[np.ndarray]) -> np.ndarray:
    """Documents that belong together are held out together: those of one text or content; of one value of the identity
    column, or else of one group.

    A group counts only where the unit is the document: groups that span the values of a column would join all of them.
    """
    hashes = known.hashes[kept].tolist()
    links = [hashes, *(c[kept].tolist() for c in contents)]
    if job.identity.kind == "column":
        links.append(known.table["shared_id"].to_numpy()[kept].tolist())
    elif job.config.validation_column is None:
        group_ids = pq.read_table(job.work.folder(group.STAGE, 0) / "groups.parquet", columns=["group_id"])
        links.append(group_ids["group_id"].to_numpy()[kept].tolist())
    if job.config.validation_column is None:
        assert job.config.validation_fraction is not None
        return hold_out(components(links), hashes, fraction=job.config.validation_fraction, seed=job.config.seed)
    places = np.array(known.table["where"].to_pylist(), dtype=object)[kept]
    return _given(components(links), known.table["held_out"].to_numpy(zero_copy_only=False)[kept].astype(bool), places)


def _given(component: np.ndarray, held_out: np.ndarray, places: np.ndarray) -> np.ndarray:
    for i in np.flatnonzero(held_out != held_out[component])[:1].tolist():
        raise InputError(
            f"{places[i]} and {places[int(component[i])]} are copies, or of one group, but only one of them is held "
            "out; hold out both or neither"
        )
    if held_out.all():
        raise InputError("every document is held out; there is nothing to train on")
    return held_out
