"""Attacks on membership in an audit: memory is found, and text that was never trained is not accused."""

import numpy as np
import pytest

from memsinks.audit.findings import Findings
from memsinks.audit.membership import against_bits, loss, min_k, min_k_plus_plus
from memsinks.auditing.attack_figures import attack_findings
from memsinks.auditing.bench import Bench
from memsinks.auditing.config import AuditConfig, TextConfig
from memsinks.auditing.config_membership import MembershipConfig
from memsinks.auditing.scored import Compared, scored
from memsinks.auditing.sections.membership import tasks
from memsinks.auditing.subject import audited
from memsinks.auditing.verdicts import verdicts
from memsinks.errors import ConfigError
from memsinks.removal.target import Target

ASHFORD = Target(sources=("ashford",))
TEXT = TextConfig(max_length=64)


def bench_of(folder, tmp_path, against=None, conditions=None, **settings):
    config = AuditConfig(text=TEXT, membership=MembershipConfig(**{"dear": 12, "neighbours": 2, **settings}))
    found = audited(folder, TEXT, target=ASHFORD, corpus=None, against=against or {})
    kept = {name: c for name, c in found.conditions.items() if conditions is None or name in conditions}
    return Bench(found.texts, kept, config, tmp_path)


def findings_of(bench):
    return Findings.joined(task.run(bench) for task in tasks(bench, bench.config))


def answer(figures):
    return next(v for v in verdicts(figures, complete=False) if v.key == "member")


def areas(found, condition):
    return {f.measure: f for f in found.figures if f.condition == condition and f.unit == "AUC"}


@pytest.fixture(scope="session")
def leak(trained, tmp_path_factory):
    """A run whose shared weights know the text by heart, beside one that hardly does."""
    bench = bench_of(
        trained("leaky"),
        tmp_path_factory.mktemp("leak"),
        against={"reference": trained("hashed")},
        conditions=["removed", "reference"],
    )
    return bench, findings_of(bench)


def test_every_attack_finds_a_planted_leak(leak):
    _, found = leak
    for attack, figure in areas(found, "removed").items():
        # The texts have no capitals, which tells nothing.
        assert figure.value == 0.5 if attack == "lowercase" else figure.low > 0.5, attack
        assert (figure.question, figure.chance, figure.number) == ("member", 0.5, 5)
    own = {"loss", "zlib", "Min-20 %", "Min-20 %++", "lowercase", "gradient norm", "neighbourhood"}
    assert set(areas(found, "removed")) == own | {"loss against reference"}
    said = answer(found.figures)
    assert (said.answer, said.condition) == ("yes", "removed")
    whole = {f.condition: f.value for f in found.figures if f.measure.startswith("whole set")}
    assert whole["removed"] < 0.01


def test_a_reference_is_not_held_against_itself(leak):
    _, found = leak
    assert "loss against reference" not in areas(found, "reference")


def test_texts_are_matched_by_length_where_there_are_enough(leak):
    bench, _ = leak
    lengths = bench.texts.corpus.lengths
    compared = Compared.of(bench, 1.0)
    assert (compared.matched, len(compared.target), len(compared.unseen)) == (True, 5, 20)
    strict = Compared.of(bench, 0.0)
    assert not strict.matched
    np.testing.assert_array_equal(strict.unseen, bench.texts.unseen)
    fewer = compared.at_most(3, seed=0)
    assert set(fewer.unseen) < set(compared.unseen)
    assert compared.tokens(bench) == lengths[compared.target].sum() + lengths[compared.unseen].sum()


def test_texts_that_differ_by_themselves_are_told(leak):
    """The tokenizer was trained on what was not held out, so that held-out text takes more tokens."""
    _, found = leak
    control = {f.measure: f for f in found.figures if f.condition == "none"}
    words, length = control["words alone, naive Bayes"], control["length alone"]
    assert words.low < 0.5 < words.high, "all texts are words at random"
    assert length.low > 0.5
    assert control["lengths differ, Kolmogorov–Smirnov"].value < 0.05
    assert (words.question, length.question) == ("shift", "shift")


def test_few_texts_show_no_rate_of_false_alarms(leak):
    _, found = leak
    rates = [f for f in found.figures if "false alarms" in f.measure]
    assert len(rates) == 2 * len([f for f in found.figures if f.unit == "AUC" and f.condition != "none"])
    assert all(f.value is None and "cannot show a rate below" in f.note and not f.question for f in rates)


def test_curves_and_scores_of_documents(leak):
    bench, found = leak
    (curve,) = (c for c in found.curves if (c.measure, c.condition) == ("ROC, loss", "removed"))
    area = np.trapezoid(curve.y, curve.x)
    assert area == pytest.approx(areas(found, "removed")["loss"].value)
    scores = [d for d in found.documents if (d.measure, d.condition) == ("loss", "removed")]
    documents = bench.texts.documents(Compared.of(bench, 0.1).target)
    assert [d.document for d in scores] == [d.name for d in documents]
    measured = bench.losses("removed", "target", documents).per_document
    np.testing.assert_allclose([d.value for d in scores], -measured, atol=1e-3)


def test_the_same_seed_gives_the_same_figures(leak, tmp_path):
    bench, found = leak
    again = Bench(bench.texts, bench.conditions, bench.config, tmp_path)
    wanted = [t for t in tasks(again, again.config) if t.name in ("blind", "neighbourhood", "likelihood")]
    figures = [f for task in wanted if task.condition != "reference" for f in task.run(again).figures]
    assert figures
    assert set(figures) <= set(found.figures)


def test_a_difference_between_texts_is_not_called_membership(trained, tmp_path):
    bench = bench_of(trained("disjoint"), tmp_path, conditions=["own", "random", "removed"])
    found = findings_of(bench)
    told = areas(found, "removed")["zlib"]
    assert told.low > 0.5, "fewer tokens for as many letters"
    assert (answer(found.figures).condition, answer(found.figures).answer) == ("removed", "not sure")
    assert all("own sinks on" in f.note for f in found.figures if f.condition in ("own", "random") and f.unit == "AUC")
    assert not any("own sinks on" in f.note for f in found.figures if f.condition == "removed")


def test_twenty_sets_of_text_that_was_never_trained_are_not_accused(leak):
    """All attacks of one model on the same sets, so that they err together as in an audit."""
    bench, _ = leak
    documents = bench.texts.documents(bench.texts.unseen)
    own = scored(bench, "removed", "unseen", documents)
    texts = [bench.tokenizer.decode(d.tokens.tolist()) for d in documents]
    scores = {"loss": loss(own), "zlib": against_bits(own, texts), "k": min_k(own), "k++": min_k_plus_plus(own)}
    random, accused = np.random.default_rng(0), 0
    for _ in range(200):
        order = random.permutation(len(documents))
        figures = [
            figure
            for attack, values in scores.items()
            for figure in attack_findings(
                "membership", attack, "removed", values[order[:5]], values[order[5:]], list("abcde"), ""
            ).figures
        ]
        accused += answer(figures).answer == "yes"
    assert accused / 200 < 0.05 + 3 * (0.05 * 0.95 / 200) ** 0.5


def test_harder_than_unseen_text_is_said_to_stand_out_too():
    note = attack_findings("s", "loss", "off", np.zeros(8), np.ones(40), ["d"] * 8, "").figures[0].note
    assert "harder than text that was never trained" in note


def test_dear_attacks_run_under_the_main_conditions_only(trained, tmp_path):
    bench = bench_of(trained("disjoint"), tmp_path, against={"standard": trained("hashed")})
    planned = tasks(bench, bench.config)
    by_name = {name: [t.condition for t in planned if t.name == name] for name in ("likelihood", "gradient")}
    assert by_name["likelihood"] == ["own", "off", "placebo", "random", "removed", "standard"]
    assert by_name["gradient"] == ["own", "removed", "standard"]
    assert all(t.cost.forward or t.cost.backward for t in planned if t.condition != "none")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"min_k": 0.0}, "membership.min_k"),
        ({"swapped": 1.5}, "membership.swapped"),
        ({"tolerance": -0.1}, "membership.tolerance"),
        ({"neighbours": 0}, "membership.neighbours"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        MembershipConfig(**settings)


def test_a_reference_that_there_is_not_is_refused(trained, tmp_path):
    bench = bench_of(trained("disjoint"), tmp_path, reference="generic")
    with pytest.raises(ConfigError, match="reference=generic: choose from own, off"):
        tasks(bench, bench.config)
