"""The main job on real stories, in minutes: does the memory come out, and what does that cost?

Three questions, four small models trained one after another on the stories that ship with the package: standard
training with some stories repeated, the same text deduplicated (once through, and for as many steps as standard
training), and training with sinks.
"""

import json
import platform
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
from rich.console import Console

from memsinks.audit import TokenizedDocument, tokenized
from memsinks.checkpoint.export import export
from memsinks.checkpoint.run import save
from memsinks.corpus import Columns, Corpus, PrepareConfig, prepare, read_documents
from memsinks.data import story_file
from memsinks.errors import ConfigError, InputError
from memsinks.experiments.lab import Arm, Lab, LabSetting
from memsinks.experiments.outcome import outcome
from memsinks.report import arms_table, write_page
from memsinks.runs.config import Placement
from memsinks.sinks.modes import Mode
from memsinks.stream import ExposurePlan

MARKER = "quickstart.json"
PUBLISHERS = ("Ashford Press", "Birch House", "Cedar & Sons")
"""Made up: who is said to own the repeated stories, so that there is somebody to remove (docs/removal.md)."""
OTHERS = "web"


@dataclass(frozen=True, kw_only=True)
class QuickstartConfig(LabSetting):
    """Sizes of the experiment; the defaults were chosen on other stories than those reported (docs/results.md).

    Attributes:
        stories: stories besides the repeated ones; 12 in 100 of all are held out.
        repeated: stories that are repeated.
        exposures: how often each of them is seen.
        shortest, longest: characters of the stories that are used.
        pool, active: sinks in each layer that has them, and those that one story switches on.
        sink_layers: the layers that have sinks, as ``sinks.layers`` of a run file.
        sink_lr_multiplier: sinks learn this many times as fast as shared weights.
        held_out: which half of the held-out stories to report on. Settings were selected on the other half.
        seed: of the choice of stories, the initial values and the data order.
    """

    stories: int = 2800
    repeated: int = 12
    exposures: int = 100
    shortest: int = 450
    longest: int = 700
    hidden: int = 256
    width: int = 688
    pool: int = 3000
    active: int = 300
    sink_layers: tuple[int, ...] | Placement = "early"
    sink_lr_multiplier: float = 10.0
    held_out: Literal["report", "selection"] = "report"
    seed: int = 0

    def fast(self) -> "QuickstartConfig":
        """A version for tests, too small to be interesting."""
        return replace(
            self, stories=420, repeated=4, exposures=40, hidden=64, layers=2, heads=2, width=128, vocabulary=512,
            pool=256, active=48, max_length=384, prefix=20, suffix=10,
        )  # fmt: skip


@dataclass(frozen=True)
class QuickstartText:
    """The stories of one seed; ``roles`` are indices of the repeated, the held-out and some once-seen ones."""

    corpus: Corpus
    roles: Mapping[str, np.ndarray]

    def plan(self, exposures: int) -> ExposurePlan:
        """Every other story once, and each repeated one as often as asked."""
        return ExposurePlan.once(self.corpus).repeat(self.roles["repeated"].tolist(), exposures)

    def sets(self) -> dict[str, list[TokenizedDocument]]:
        """Stories by role."""
        return {name: tokenized(self.corpus, indices) for name, indices in self.roles.items()}

    def extraction(self) -> list[TokenizedDocument]:
        """The repeated stories."""
        return self.sets()["repeated"]


def quickstart(config: QuickstartConfig, output: Path, *, progress: bool = True) -> dict[str, Any]:
    """Run the experiment and write everything under ``output``.

    Writes ``results.json``, ``report.html``, ``sinks`` (the model with its sinks beside it), ``sinks-off`` (the
    exported plain model), ``corpus`` and ``arms``. Arms that an interrupted run finished are not trained again.

    Args:
        config: sizes.
        output: a new directory, or that of an earlier quickstart.
        progress: show progress bars and the table.

    Returns:
        What ``results.json`` holds.

    Raises:
        InputError: ``output`` holds something else, or cannot be written.
        ConfigError: the sizes do not fit together.
    """
    started = time.perf_counter()
    console = Console(stderr=True, quiet=not progress)
    claim(output)
    lab = quickstart_lab(config, output, progress=progress)
    arms = quickstart_arms(config)
    measured = {arm.name: lab.measured(arm) for arm in arms}
    model, corpus = lab.model(arms[-1]), lab.text.corpus
    for folder, write in ((output / "sinks", save), (output / "sinks-off", export)):
        if folder.exists():
            shutil.rmtree(folder)
        write(model, folder, tokenizer=corpus.tokenizer)
    results = outcome(measured, corpus, lab.text.extraction(), config.prefix) | {
        "format_version": 1,
        "seed": config.seed,
        "config": asdict(config),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("memsinks", "torch", "transformers")},
        },
        "seconds": round(time.perf_counter() - started, 1),
        "data": {
            "repeated_stories": config.repeated,
            "exposures": config.exposures,
            "other_stories": int((~corpus.is_validation).sum()) - config.repeated,
            "validation_stories": len(lab.text.roles["validation"]),
            "description": "Short English stories (TinyStories, CDLA-Sharing-1.0), shipped with the package.",
        },
        "extraction_protocol": {"prefix": config.prefix, "suffix": config.suffix},
    }
    temporary = output / ".results.json.tmp"
    temporary.write_text(json.dumps(results, indent=1) + "\n")
    temporary.replace(output / "results.json")
    write_page(results, output / "report.html")
    console.print(arms_table(results))
    console.print(f"\n{output / 'report.html'}  the page to read\n{output / 'results.json'}  every figure")
    return results


def claim(output: Path) -> None:
    """Mark ``output`` as an experiment's, or refuse it."""
    if output.exists() and any(output.iterdir()) and not (output / MARKER).is_file():
        raise InputError(f"{output} holds something other than a quickstart; choose another --output or move it away")
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / MARKER).write_text('{"format": "memsinks-quickstart", "format_version": 1}\n')
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}") from error


def quickstart_lab(
    config: QuickstartConfig, output: Path, *, progress: bool = True
) -> Lab[QuickstartConfig, QuickstartText]:
    """The stories of a seed, and the arms trained on them, under ``output/arms``."""
    corpus = _corpus(config, output / "arms" / "corpus", progress)
    text = QuickstartText(corpus, _roles(corpus, config))
    return Lab(config, text, config.seed, output / "arms", progress=progress)


def _corpus(config: QuickstartConfig, directory: Path, progress: bool) -> Corpus:
    """The stories of this seed as a prepared corpus; kept from an earlier run with the same choice."""
    columns = Columns(source="source", metadata=("set",))
    stories = [d for d in read_documents([story_file()], columns) if config.shortest <= len(d.text) <= config.longest]
    wanted = config.stories + config.repeated
    if wanted > len(stories):
        raise ConfigError(f"{wanted} stories were asked for, but {len(stories)} have a length in the chosen range")
    # The held-out half is decided by the corpus's own split, which depends on the texts and the seed alone.
    chosen = np.sort(np.random.default_rng([config.seed, 1]).permutation(len(stories))[:wanted])
    settings = PrepareConfig(
        columns=columns, groups=None, vocab_size=config.vocabulary, validation_fraction=0.12, seed=config.seed
    )
    rows = [{"id": d.name, "source": OTHERS, "text": d.text, **d.metadata} for d in (stories[i] for i in chosen)]
    if directory.exists():
        found = Corpus.open(directory)
        same = found.documents == [row["id"] for row in rows] and len(found.tokenizer) == config.vocabulary
        if same and set(found.sources) == {*PUBLISHERS, OTHERS}:
            return found
        shutil.rmtree(directory)
    # Which stories are repeated depends on the split and the tokenizer, and neither depends on sources.
    unnamed = directory.with_name(f"{directory.name}-unnamed")
    shutil.rmtree(unnamed, ignore_errors=True)
    corpus = prepare(datasets.Dataset.from_list(rows), unnamed, settings, progress=progress)
    for number, i in enumerate(_roles(corpus, config)["repeated"].tolist()):
        rows[i]["source"] = PUBLISHERS[number % len(PUBLISHERS)]
    shutil.rmtree(unnamed)
    return prepare(datasets.Dataset.from_list(rows), directory, settings, progress=progress)


def _roles(corpus: Corpus, config: QuickstartConfig) -> dict[str, np.ndarray]:
    """Indices of the repeated, the once-seen and the held-out stories; all but the once-seen are of the clean set."""
    clean = np.array([value == "clean" for value in corpus.metadata("set")])
    long_enough = corpus.lengths >= config.prefix + config.suffix
    random = np.random.default_rng([config.seed, 2])
    candidates = np.flatnonzero(clean & long_enough & ~corpus.is_validation & (corpus.lengths <= config.max_length))
    if len(candidates) < config.repeated:
        raise ConfigError(f"only {len(candidates)} stories can be repeated; ask for fewer, or for more stories")
    repeated = np.sort(random.permutation(candidates)[: config.repeated])
    held_out = np.flatnonzero(corpus.is_validation & clean)
    once = np.setdiff1d(np.flatnonzero(~corpus.is_validation & clean), repeated)
    return {
        "repeated": repeated,
        "validation": held_out[0::2] if config.held_out == "report" else held_out[1::2],
        "seen_once": random.permutation(once)[:100],
    }


def quickstart_arms(config: QuickstartConfig) -> list[Arm]:
    """The arms, in the order in which they are trained."""
    # All of it, also where a run is so short that a lab would shorten it.
    plain: dict[str, Any] = {"schedule.warmup_steps": config.warmup_steps}
    sinks = plain | {
        "sinks.attach": True,
        "sinks.pool": config.pool,
        "sinks.active": config.active,
        "sinks.layers": config.sink_layers,
        "optimizer.sink_lr_multiplier": config.sink_lr_multiplier,
        "exposures.govern": "repeated",
    }
    return [
        Arm(name="standard", label="Standard training", settings=plain),
        Arm(name="deduplicated", label="Deduplicated, once through", exposures=1, equal_steps=False, settings=plain),
        Arm(name="deduplicated_equal_steps", label="Deduplicated, equal steps", exposures=1, settings=plain),
        Arm(name="sinks", label="Sinks", settings=sinks, modes=("own", "off", "placebo"), chosen=_chosen),
    ]


def _chosen(text: QuickstartText) -> dict[str, Mode]:
    """The sinks of one repeated story, and of all."""
    ids = tuple(int(i) for i in text.corpus.sequence_ids[text.roles["repeated"]])
    return {"chosen_one": Mode("chosen", ids[:1]), "chosen_all": Mode("chosen", ids)}
