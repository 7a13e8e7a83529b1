"""Alternatives to a removal for people, as Markdown."""

from collections.abc import Iterator

from memsinks.removal.alternatives import Alternatives, Disjoint, Way

_NAMES: dict[Way, str] = {
    "remove-shared": "as asked, shared rows go",
    "keep-shared": "as asked, shared rows stay",
    "everything": "all sinks go",
    "deny": "deny-list, reversible",
    "attenuate": "attenuation, reversible",
}


def alternatives_lines(found: Alternatives) -> Iterator[str]:
    """A table, what the reversible ones do not do, and a hint for the next training."""
    yield "| what | rows that go | rows that stay | IDs touched | mean | largest | complete |"
    yield "|---|---|---|---|---|---|---|"
    for own in found.ways:
        touched = f"{own.affected:,}, of {own.sources:,} sources" if own.affected else "none"
        yield (
            f"| {_NAMES[own.way]} | {own.rows:,} | {own.stay:,} | {touched} | {own.mean:.1%} | {own.most:.1%} | "
            f"{'yes' if own.complete else 'no'} |"
        )
    yield ""
    yield (
        "Rows that stay are those of the request. IDs touched are others; mean and largest is the part of an ID's rows "
        "that goes, or by attenuation is scaled too."
    )
    against = dict.fromkeys(reason for own in found.ways for reason in own.hindered)
    yield (
        "Complete is what a certificate could say, if the verification passes. What stands against it: "
        f"{'; '.join(against)}."
    )
    yield ""
    yield "- All sinks go: `--everything`. What is left is the plain model; no ID has its memory any more."
    yield (
        "- Deny-list: `memsinks ledger deny`. Servers that read the ledger do not switch these IDs on until they are "
        "allowed again. Nothing leaves the files or their copies, and IDs that share rows still switch these on."
    )
    yield (
        "- Attenuation: `memsinks serve --attenuate`. The sinks add less, in that server. Nothing leaves the files, "
        "and text can still come out word for word."
    )
    if found.disjoint is not None:
        yield f"- {_hint(found.disjoint)}"


def _hint(hint: Disjoint) -> str:
    start = (
        'For the next training: with `sinks.allocation = "disjoint"` a removal takes nothing from anybody. In this '
        f"pool of {hint.pool:,} rows in a layer"
    )
    rest = f"{hint.active:,} of its own for each, as many as it has now, need {hint.needed:,} rows"
    if not hint.own:
        return f"{start} there is not one for each of {hint.ids:,} IDs; {rest}."
    return f"{start} each of {hint.ids:,} IDs could own {hint.own:,}; {rest}."
