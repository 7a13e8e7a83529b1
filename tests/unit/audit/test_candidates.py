import numpy as np
import pytest
import torch

from memsinks.audit import greedy_extraction
from memsinks.audit.candidates import Candidates, beam_candidates, sampled_candidates
from memsinks.audit.forced import Sampling, forced
from memsinks.errors import InputError
from memsinks.sinks.modes import OWN

from .conftest import make_documents

SIZES = {"mode": None, "prefix": 5, "suffix": 4}


def exhaustive_beam(model, prompt, steps, beams):
    """The oracle: no cache, every continuation of every beam scored."""
    kept = [(0.0, prompt.tolist())]
    for _ in range(steps):
        grown = []
        for score, tokens in kept:
            with torch.no_grad():
                chances = model(input_ids=torch.tensor([tokens])).logits[0, -1].log_softmax(-1)
            grown += [(score + float(c), [*tokens, i]) for i, c in enumerate(chances)]
        kept = sorted(grown, key=lambda own: -own[0])[:beams]
    return [tokens[len(prompt) :] for _, tokens in kept]


def test_beams_are_those_of_a_full_search(llama):
    documents = make_documents([12, 9, 15])
    found = beam_candidates(llama, documents, **SIZES, beams=3, batch_size=2)
    for document, own in zip(documents, found, strict=True):
        assert own.name == document.name
        assert own.expected.tolist() == document.tokens[5:9].tolist()
        assert own.written.tolist() == exhaustive_beam(llama, document.tokens[:5], 4, 3)


def test_samples_depend_on_the_seed_alone_and_leave_torchs_state(llama):
    documents, sampling = make_documents([12, 9]), Sampling(temperature=1.5)
    before = torch.random.get_rng_state()

    def drawn(seed):
        found = sampled_candidates(llama, documents, **SIZES, samples=6, sampling=sampling, seed=seed)
        return np.stack([c.written for c in found])

    first = drawn(1)
    torch.manual_seed(5)
    again = drawn(1)
    assert first.shape == (2, 6, 4)
    assert (first == again).all()
    assert (first != drawn(2)).any()
    assert len({tuple(row) for row in first[0]}) > 1
    torch.random.set_rng_state(before)
    drawn(1)
    assert (torch.random.get_rng_state() == before).all()


def test_samples_stay_in_top_k(llama):
    """From one token only the first choice can be drawn."""
    documents = make_documents([12, 9])
    greedy = greedy_extraction(llama, documents, **SIZES).documents
    sampling = Sampling(temperature=5, top_k=1)
    found = sampled_candidates(llama, documents, **SIZES, samples=3, sampling=sampling, seed=0)
    for own, other in zip(found, greedy, strict=True):
        assert (own.written == other.generated).all()


def test_the_best_of_all_tries_counts():
    document = np.array([1, 2, 3, 4, 5, 6, 7, 8])
    own = Candidates("x", document, document[4:], np.array([[1, 2, 3, 9], [5, 9, 7, 8], [9, 9, 9, 9]]))
    assert own.longest_run == 3
    assert own.edit_similarity == 0.75


def test_rows_are_continued_with_their_own_ids(recording):
    documents = make_documents([12, 9, 11])
    sampled_candidates(
        recording, documents, mode=OWN, prefix=5, suffix=2, samples=2, sampling=Sampling(), seed=0, batch_size=2
    )
    assert [call["ids"].numpy().view(np.uint64).tolist() for call in recording.calls] == [
        [d.sequence_id for d in documents[:2]],
        [documents[2].sequence_id],
    ]
    assert all(call["mode"] == OWN for call in recording.calls)


def test_a_likely_text_is_among_the_samples(llama):
    """The chance that forced() tells is that of at least one sample."""
    document = make_documents([8])[0]
    with torch.no_grad():
        document.tokens[7] = int(llama(input_ids=torch.from_numpy(document.tokens[:7])[None]).logits[0, -1].argmax())
    chance = float(np.exp(forced(llama, [document], mode=None)[0].suffix_log_chance(7, 1)))
    found = sampled_candidates(
        llama, [document], mode=None, prefix=7, suffix=1, samples=3000, sampling=Sampling(), seed=0
    )[0]
    assert (found.written[:, 0] == document.tokens[7]).mean() == pytest.approx(chance, abs=0.04)


@pytest.mark.parametrize(
    ("documents", "words"), [([], "no documents"), (make_documents([12, 8]), "'story 1' has fewer than")]
)
def test_what_cannot_be_continued(llama, documents, words):
    with pytest.raises(InputError, match=words):
        beam_candidates(llama, documents, **SIZES, beams=2)


def test_impossible_sizes(llama):
    with pytest.raises(InputError, match="beams"):
        beam_candidates(llama, make_documents([12]), **SIZES, beams=1)
    with pytest.raises(InputError, match="at least 1"):
        sampled_candidates(llama, make_documents([12]), **SIZES, samples=0, sampling=Sampling(), seed=0)
