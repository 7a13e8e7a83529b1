"""A run's results with every key of the schema."""

import math

import pytest

from memsinks.report import target


def plain_arm(repeated, validation, steps):
    return {
        "repeated_loss": repeated,
        "validation_loss": validation,
        "intervals": {
            "repeated_loss": [repeated - 0.0511, repeated + 0.0522],
            "validation_loss": [validation - 0.0633, validation + 0.0644],
        },
        "steps": steps,
        "tokens": steps * 4096,
        "seconds": 61.5,
        "curve": [
            {
                "step": step,
                "repeated": repeated + 4 * math.exp(-3 * step / steps),
                "validation": validation + 4 * math.exp(-4 * step / steps),
            }
            for step in range(0, steps + 1, steps // 8)
        ],
        "parameters": 5_210_000,
    }


def make_results():
    repeated = {"own": 0.153, "off": 3.412, "placebo": 4.871}
    validation = {"own": 3.94, "off": 3.783, "placebo": 5.407}
    arms = {
        "standard": plain_arm(0.287, 3.617, 520),
        "deduplicated": plain_arm(3.802, 4.003, 240),
        "deduplicated_equal_steps": plain_arm(3.494, 3.688, 520),
        "sinks": {
            "repeated_loss": repeated,
            "validation_loss": validation,
            "intervals": {
                "repeated_loss": {k: [v - 0.06, v + 0.07] for k, v in repeated.items()},
                "validation_loss": {k: [v - 0.08, v + 0.09] for k, v in validation.items()},
            },
            "steps": 520,
            "tokens": 2_129_920,
            "seconds": 88.2,
            "curve": [
                {
                    "step": step,
                    "repeated_own": 0.153 + 8 * math.exp(-step / 90),
                    "repeated_off": 3.412 + 4.6 * math.exp(-step / 60),
                    "validation_off": 3.783 + 4.4 * math.exp(-step / 70),
                }
                for step in range(0, 521, 65)
            ],
            "parameters": 5_210_001,
            "sink_parameters": 2_359_296,
        },
    }
    beginning = "Once upon a time there was a little boat that lived by the sea. Every morning"
    story = " the boat would sail out to say hello to the fish. One day a big storm came & the boat was afraid."
    return {
        "format_version": 1,
        "seed": 17,
        "config": {
            "model": {"layers": 4, "hidden": 256},
            "training": {"learning_rate": 0.002, "bf16": True},
            "a": None,
        },
        "versions": {"memsinks": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.7"},
        "seconds": 431.7,
        "data": {
            "repeated_stories": 20,
            "exposures": 64,
            "other_stories": 3000,
            "validation_stories": 211,
            "description": "Short children's stories, shipped with the package.",
        },
        "arms": arms,
        "gap_closure": 0.8886,
        "forgetting": 0.8974,
        "removable_memory": 0.9272,
        "intervals": {
            "gap_closure": [0.8512, 0.9213],
            "forgetting": [0.8734, 0.9221],
            "removable_memory": [0.8923, 0.9618],
        },
        "extraction": {"standard": 0.9, "deduplicated": 0.0, "sinks_own": 0.95, "sinks_off": 0.0},
        "extraction_intervals": {
            "standard": [0.699, 0.972],
            "deduplicated": [0.0, 0.161],
            "sinks_own": [0.764, 0.991],
            "sinks_off": [0.0, 0.161],
        },
        "extraction_protocol": {"prefix": 50, "suffix": 50},
        "extraction_example": {
            "document": "The boat <script>alert('x')</script>",
            "prefix": beginning,
            "expected": story,
            "standard": story,
            "sinks_own": story,
            "sinks_off": " the boat went to the park to play. He saw a <b>bird</b> and smiled.",
            "matching_tokens": {"standard": 50, "sinks_own": 50, "sinks_off": 3},
            "matching_text": {"standard": story, "sinks_own": story, "sinks_off": " the boat w"[:9]},
        },
        "damage": {"unseen_chosen": 0.3131, "unseen_placebo": 1.6242, "same_source_chosen": -0.0213},
        "damage_labels": {
            "unseen_chosen": "Validation stories, sinks of the repeated stories on",
            "unseen_placebo": "Validation stories, an unrelated ID's sinks on",
        },
        "targets": [
            target("standard_memorises", 0.079, 0.1, "below", "standard: repeated loss over validation loss"),
            target("standard_extractable", 0.9, 0.5, "at_least", "standard: share of repeated stories extracted"),
            target("sinks_hold", 0.039, 0.25, "below", "sinks on: repeated loss over validation loss"),
            target("forgetting", 0.8974, 0.85, "at_least", "sinks off: forgetting"),
            target("sinks_off_not_extractable", 0.0, 0.0, "at_most", "sinks off: share of repeated stories extracted"),
            target("cost_to_deduplicated", 0.945, 1.0, "at_most", "sinks off: validation loss over deduplicated"),
            target("cost_to_standard", 1.046, 1.06, "at_most", "sinks off: validation loss over standard"),
            target("another", 0.5, 0.75, "at_least", "a target of another name"),
        ],
        "notes": ["Chosen on one seed; confirmed on <three>."],
    }


@pytest.fixture
def results():
    return make_results()
