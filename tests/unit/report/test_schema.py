import copy
import json
import math

import pytest

from memsinks.errors import InputError
from memsinks.report import target, validate
from memsinks.report.schema import reaches

from .conftest import make_results


def required_paths(value, path=()):
    if isinstance(value, dict):
        for key, item in value.items():
            free = path and path[0] in ("config", "versions", "damage", "damage_labels")
            if not free and key != "damage_labels":
                yield (*path, key)
            yield from required_paths(item, (*path, key))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield from required_paths(value[0], (*path, 0))


def parent(results, path):
    for key in path[:-1]:
        results = results[key]
    return results


PATHS = list(required_paths(make_results()))


def dotted(path):
    return "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in path).removeprefix(".")


def test_accepts_and_returns_the_same(results):
    assert validate(results) is results


def test_survives_json(results):
    validate(json.loads(json.dumps(results)))


@pytest.mark.parametrize("path", PATHS, ids=dotted)
def test_names_the_missing_key(results, path):
    del parent(results, path)[path[-1]]
    with pytest.raises(InputError) as error:
        validate(results)
    assert str(error.value) == f"results: {dotted(path)} is missing"


@pytest.mark.parametrize(
    ("path", "value", "wanted"),
    [
        (("seed",), 1.5, "an integer"),
        (("seed",), True, "an integer"),
        (("seconds",), "1", "a number"),
        (("seconds",), math.inf, "a number"),
        (("arms",), [], "an object"),
        (("arms", "sinks", "repeated_loss", "own"), None, "a number"),
        (("arms", "standard", "curve"), {}, "a list"),
        (("arms", "standard", "intervals", "repeated_loss"), [1.0], "pair"),
        (("targets", 0, "direction"), "over", "one of"),
        (("targets", 0, "met"), 1, "true or false"),
        (("notes", 0), 3, "a string"),
        (("damage", "unseen_chosen"), "x", "a number"),
    ],
)
def test_names_the_wrong_value(results, path, value, wanted):
    parent(results, path)[path[-1]] = value
    with pytest.raises(InputError, match=wanted) as error:
        validate(results)
    assert f"results: {dotted(path)} must be" in str(error.value)


@pytest.mark.parametrize("wrong", [None, [], "text"])
def test_the_whole_must_be_an_object(wrong):
    with pytest.raises(InputError, match="the file must be an object"):
        validate(wrong)


def test_undefined_measures_are_null(results):
    for key in ("gap_closure", "forgetting", "removable_memory"):
        results[key] = None
        results["intervals"][key] = [None, None]
    validate(results)


def test_labels_are_optional_and_further_keys_allowed(results):
    del results["damage_labels"]
    results["more"] = {"anything": object()}
    validate(results)


def test_another_format_version(results):
    results["format_version"] = 2
    with pytest.raises(InputError, match="format_version is 2"):
        validate(results)


def test_a_target_cannot_contradict_its_numbers(results):
    changed = copy.deepcopy(results)
    changed["targets"][3]["met"] = False
    with pytest.raises(InputError, match=r"targets\[3\] \(forgetting\)"):
        validate(changed)


def test_directions():
    assert reaches(1.0, 1.0, "at_least")
    assert reaches(1.0, 1.0, "at_most")
    assert not reaches(1.0, 1.0, "below")
    assert not any(reaches(math.nan, 1.0, d) for d in ("at_least", "at_most", "below"))
    assert target("x", 0.5, 0.6, "below", "half")["met"]
