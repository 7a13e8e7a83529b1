"""Formulas of measures, apart from models: each takes numbers or tokens and gives a number.

=========== ==========================================================================================================
ranking     how well a score tells two sets of texts apart: AUC, ROC curve, true-positive rate at a low false one
samples     whether two samples differ: Kolmogorov–Smirnov, permutation of the mean
memory      how much of a text a model gives back: exact memorisation, extraction strength, probability, ROUGE-L recall
unlearning  benchmarks of unlearning: truth ratio, forget quality, privacy leakage, model utility
=========== ==========================================================================================================
"""

from memsinks.audit.metrics.memory import exact_memorisation, extraction_strength, probability, rouge_l_recall
from memsinks.audit.metrics.ranking import Roc, auc, auc_interval, roc_curve, tpr_at_fpr
from memsinks.audit.metrics.samples import KolmogorovSmirnov, kolmogorov_smirnov, permutation_test
from memsinks.audit.metrics.unlearning import forget_quality, model_utility, privacy_leakage, truth_ratio

__all__ = [
    "KolmogorovSmirnov",
    "Roc",
    "auc",
    "auc_interval",
    "exact_memorisation",
    "extraction_strength",
    "forget_quality",
    "kolmogorov_smirnov",
    "model_utility",
    "permutation_test",
    "privacy_leakage",
    "probability",
    "roc_curve",
    "rouge_l_recall",
    "tpr_at_fpr",
    "truth_ratio",
]
