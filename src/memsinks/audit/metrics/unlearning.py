"""Measures of the benchmarks TOFU (arXiv 2401.06121), MUSE (arXiv 2407.06460) and OpenUnlearning (arXiv 2506.12618)."""

from statistics import harmonic_mean

import numpy as np
from numpy.typing import ArrayLike

from memsinks.audit.metrics.checks import numbers
from memsinks.audit.metrics.samples import kolmogorov_smirnov
from memsinks.errors import InputError


def truth_ratio(paraphrase: ArrayLike, perturbed: ArrayLike) -> float:
    """How likely wrong answers are beside the right one: mean over wrong ones of ``p(wrong) / p(right)``, normalised.

    ``R = (1 / |A|) Σ_a p(a)^(1 / n_a) / p(right)^(1 / n)`` over perturbed answers ``a``, with the right answer
    paraphrased (TOFU). Near 1 a model does not know the answer; far below 1 it does. Several paraphrases enter by their
    mean.

    Args:
        paraphrase: normalised probability, see :func:`~memsinks.audit.metrics.probability`, of right answers.
        perturbed: the same of wrong answers.

    Raises:
        InputError: a side is empty, a probability is outside ``[0, 1]``, or the right answers' is 0.
    """
    right, wrong = numbers(paraphrase, "right answers"), numbers(perturbed, "wrong answers")
    if min(right.min(), wrong.min()) < 0 or max(right.max(), wrong.max()) > 1:
        raise InputError("truth ratio: probabilities must lie between 0 and 1; give exp of the mean log-probability")
    if not right.mean():
        raise InputError("truth ratio: the right answers have probability 0, so there is no ratio")
    return float(wrong.mean() / right.mean())


def forget_quality(forgotten: ArrayLike, retrained: ArrayLike) -> float:
    """p-value of a Kolmogorov–Smirnov test: can the model be told from one that never saw the text (TOFU)?

    1 means that both treat the text alike, near 0 that they are told apart. It falls with the number of documents, so
    only values over equally many compare.

    Args:
        forgotten: a value of each document of the forgotten text under the model: TOFU takes truth ratios.
        retrained: the same under a model that never saw it.

    Raises:
        InputError: a side is empty, or a value is not finite.
    """
    return kolmogorov_smirnov(forgotten, retrained).p


def privacy_leakage(auc: float, auc_retrained: float) -> float:
    """PrivLeak of MUSE: how far an attack's AUC is from that on a retrained model, relative to it.

    ``((1 - AUC) - (1 - AUC_retrained)) / (1 - AUC_retrained)``, where an AUC above 1/2 says "member". MUSE's AUC is
    our 1 - AUC, by loss instead of likelihood. 0 is ideal; below, the text is still told from other text; above, it is
    harder than text that was never seen, which gives it away too. MUSE shows it in percent.

    Args:
        auc: of Min-K % on the model, forgotten text against held-out text, see
            :func:`~memsinks.audit.metrics.auc`.
        auc_retrained: the same on a model that never saw the text.

    Raises:
        InputError: an AUC is outside ``[0, 1]``, or that of the retrained model is 1.
    """
    if not (0 <= auc <= 1 and 0 <= auc_retrained <= 1):
        raise InputError(f"privacy leakage: AUCs must lie between 0 and 1, not {auc} and {auc_retrained}")
    if auc_retrained == 1:
        raise InputError("privacy leakage is not defined: the AUC of the retrained model is 1")
    return (auc_retrained - auc) / (1 - auc_retrained)


def model_utility(scores: ArrayLike) -> float:
    """Harmonic mean of scores between 0 and 1 on text that is to be kept: one bad score pulls it down (TOFU).

    Raises:
        InputError: there is none, or one is outside ``[0, 1]``.
    """
    found = numbers(scores, "scores")
    if found.min() < 0 or found.max() > 1:
        raise InputError(f"model utility: scores must lie between 0 and 1, not {found.min():g} to {found.max():g}")
    return float(harmonic_mean(np.asarray(found).tolist()))
