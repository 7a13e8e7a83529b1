import json

import numpy as np
import pytest
import torch

from memsinks.audit import DocumentExtraction, TokenizedDocument, greedy_extraction
from memsinks.errors import InputError
from memsinks.sinks.modes import OFF, OWN

from .conftest import make_documents


def greedy(model, prompt, count):
    """The oracle: no cache, no generate()."""
    tokens = torch.from_numpy(prompt)[None]
    with torch.no_grad():
        for _ in range(count):
            tokens = torch.cat([tokens, model(input_ids=tokens).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    return tokens[0].numpy()


def test_generated_is_the_greedy_continuation(llama):
    documents = make_documents([20, 11, 12])
    result = greedy_extraction(llama, documents, mode=None, prefix=5, suffix=6, batch_size=2)
    assert [d.name for d in result.documents] == [d.name for d in documents]
    for document, found in zip(documents, result.documents, strict=True):
        assert found.prefix.tolist() == document.tokens[:5].tolist()
        assert found.expected.tolist() == document.tokens[5:11].tolist()
        assert found.generated.tolist() == greedy(llama, document.tokens[:5], 6)[5:].tolist()


def test_a_document_the_model_writes_is_extracted_and_others_are_not(llama):
    prefix = make_documents([5])[0].tokens
    known = TokenizedDocument("known", greedy(llama, prefix, 6), 1)
    other = TokenizedDocument("other", np.concatenate([prefix, (known.tokens[5:] + 1) % 32]), 2)
    result = greedy_extraction(llama, [known, other], mode=None, prefix=5, suffix=6)
    assert [d.exact for d in result.documents] == [True, False]
    assert [d.token_accuracy for d in result.documents] == [1.0, 0.0]
    assert [d.longest_match for d in result.documents] == [6, 0]
    assert (result.rate, result.exact_count, result.mean_token_accuracy) == (0.5, 1, 0.5)


def test_the_models_generation_settings_do_not_matter(llama, recwarn):
    document = make_documents([11])
    plain = greedy_extraction(llama, document, mode=None, prefix=5, suffix=6).documents[0].generated
    settings = llama.generation_config
    settings.eos_token_id = int(plain[1])
    settings.pad_token_id = 0
    settings.repetition_penalty = 5.0
    settings.do_sample, settings.temperature, settings.top_k = True, 3.0, 3
    settings.max_length = 2
    again = greedy_extraction(llama, document, mode=None, prefix=5, suffix=6).documents[0].generated
    assert again.tolist() == plain.tolist()
    assert llama.generation_config is settings
    assert not recwarn.list


def test_no_log_lines(llama, caplog):
    import transformers

    logger = transformers.logging.get_logger("transformers")
    logger.addHandler(caplog.handler)
    try:
        greedy_extraction(llama, make_documents([11, 11]), mode=None, prefix=5, suffix=6)
    finally:
        logger.removeHandler(caplog.handler)
    assert not caplog.records


def test_counts_by_hand():
    found = DocumentExtraction("x", np.array([9]), np.array([1, 2, 3, 4]), np.array([1, 2, 0, 4]))
    assert (found.exact, found.token_accuracy, found.longest_match) == (False, 0.75, 2)


@pytest.mark.parametrize("mode", [OWN, OFF])
def test_sinks_get_the_mode_and_each_rows_id(recording, mode):
    recording.train()
    documents = make_documents([11, 11, 11])
    greedy_extraction(recording, documents, mode=mode, prefix=5, suffix=6, batch_size=2)
    assert [call["mode"] for call in recording.calls] == [mode, mode]
    assert [call["ids"].numpy().view(np.uint64).tolist() for call in recording.calls] == [
        [d.sequence_id for d in documents[:2]],
        [documents[2].sequence_id],
    ]
    assert all(call["mask"].all() and not call["training"] and not call["grad"] for call in recording.calls)
    assert all(m.training for m in recording.modules())
    assert recording.sink_mode == "before"


def test_short_documents_are_refused_or_listed(llama):
    documents = make_documents([11, 10, 12, 3])
    with pytest.raises(InputError, match=r"2 document.*'story 1'"):
        greedy_extraction(llama, documents, mode=None, prefix=5, suffix=6)
    result = greedy_extraction(llama, documents, mode=None, prefix=5, suffix=6, skip_short=True)
    assert result.skipped == ("story 1", "story 3")
    assert [d.name for d in result.documents] == ["story 0", "story 2"]


@pytest.mark.parametrize("documents", [[], make_documents([4])])
def test_nothing_to_extract_is_not_a_rate_of_zero(llama, documents):
    with pytest.raises(InputError, match="nothing to extract"):
        greedy_extraction(llama, documents, mode=None, prefix=5, suffix=6, skip_short=True)


@pytest.mark.parametrize("sizes", [{"prefix": 0}, {"suffix": 0}, {"batch_size": 0}])
def test_impossible_sizes(llama, sizes):
    with pytest.raises(InputError, match="at least 1"):
        greedy_extraction(llama, make_documents([11]), mode=None, **sizes)


def test_json(llama):
    result = greedy_extraction(llama, make_documents([11]), mode=None, prefix=5, suffix=6)
    written = json.loads(json.dumps(result.to_json()))
    assert written["rate"] == result.rate
    assert (written["prefix"], written["suffix"], written["skipped"]) == (5, 6, [])
    assert written["documents"][0]["name"] == "story 0"
