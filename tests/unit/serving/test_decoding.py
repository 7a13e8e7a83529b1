"""Completions generated together, against transformers' own generation of each alone."""

import pytest
import torch
from families import FAMILY_NAMES, VOCABULARY, sink_model

import memsinks
from memsinks.serving.decoding import decode
from memsinks.serving.generation import Generation
from memsinks.serving.sampling import GREEDY, Sampling
from memsinks.sinks.modes import OFF, Mode

MODES = (OFF, Mode("chosen", (5,)), Mode("chosen", (5, 9)), Mode("chosen", (2**64 - 1,)))
END = 2


class Letters:
    """A tokenizer with a letter for each token."""

    def decode(self, tokens, **options):
        return "".join(chr(ord("A") + token) for token in tokens)


def precise(family):
    """A model in which a batch's other order of sums cannot change which token is the most likely."""
    # Gemma 2 has eager attention by default. Its softmax is in float32, where the mask of padding in float64 overflows.
    return sink_model(family, dtype=torch.float32 if family == "gemma2" else torch.float64)


def prompts():
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(3, VOCABULARY, (length,), generator=generator).tolist() for length in (9, 1, 5, 14)]


def run(model, requests, permits=lambda mode: True, **options):
    """The texts of completions that are generated together, and how they ended."""
    pieces = [[] for _ in requests]
    generations = [
        Generation(prompt, Letters(), emit=own.append, mode=mode, **{"max_tokens": 10, "end": {END}, **options, **more})
        for own, (prompt, mode, more) in zip(pieces, requests, strict=True)
    ]
    decode(model, generations, permits=permits)
    texts = ["".join(piece.text for piece in own) for own in pieces]
    return texts, [generation.finished for generation in generations]


def alone(model, prompt, mode):
    """What ``generate`` writes; the end marker is not part of it."""
    with memsinks.use_sinks(model, mode):
        output = model.generate(torch.tensor([prompt]), max_new_tokens=10, do_sample=False, eos_token_id=END)
    return Letters().decode([token for token in output[0, len(prompt) :].tolist() if token != END])


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_mixed_batch_writes_what_each_row_writes_alone(family):
    model = precise(family)
    requests = list(zip(prompts(), MODES, strict=True))
    found, _ = run(model, [(prompt, mode, {}) for prompt, mode in requests])
    assert found == [alone(model, prompt, mode) for prompt, mode in requests]


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_probabilities_are_those_of_one_pass_over_each_row(family):
    model = precise(family)
    prompt, reports = prompts()[0], [[] for _ in MODES]
    pairs = list(zip((prompts()[3], prompt, prompt[4:], prompts()[1]), MODES, strict=True))
    generations = [
        Generation(
            own,
            Letters(),
            max_tokens=8,
            end=(),
            emit=lambda piece, here=here: here.extend(piece.tokens),
            mode=mode,
            sampling=Sampling(temperature=1.0, seed=1, logprobs=0),
        )
        for (own, mode), here in zip(pairs, reports, strict=True)
    ]
    decode(model, generations, permits=lambda mode: True)
    for (own, mode), here in zip(pairs, reports, strict=True):
        tokens = own + [ord(report.text) - ord("A") for report in here]
        with torch.no_grad(), memsinks.use_sinks(model, mode):
            logprobs = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
        expected = [float(logprobs[at - 1, tokens[at]]) for at in range(len(own), len(tokens))]
        assert [report.logprob for report in here] == pytest.approx(expected, abs=1e-5)
        with torch.no_grad(), memsinks.sinks_off(model):
            off = model(torch.tensor([tokens])).logits[0].log_softmax(-1)
        assert torch.equal(off, logprobs) == (mode == OFF)


def test_rows_that_end_leave_the_others_as_they_were():
    model = sink_model("llama", dtype=torch.float64)
    lengths = (3, 10, 1, 7)
    expected = [
        alone(model, prompt, mode)[:length] for prompt, mode, length in zip(prompts(), MODES, lengths, strict=True)
    ]
    requests = [(p, m, {"max_tokens": length}) for p, m, length in zip(prompts(), MODES, lengths, strict=True)]
    found, ends = run(model, requests)
    assert found == expected
    assert set(ends) <= {"length", "stop"}


def test_one_row_has_the_bits_of_the_plain_model():
    model = sink_model("llama")
    prompt, seen = prompts()[0], []

    class Watched(Generation):
        def take(self, logits):
            seen.append(logits)
            return super().take(logits)

    decode(
        model,
        [Watched(prompt, Letters(), max_tokens=1, end=(), emit=lambda piece: None)],
        permits=lambda mode: True,
    )
    plain = memsinks.detach(model)
    with torch.no_grad():
        assert torch.equal(seen[0], plain(torch.tensor([prompt]), logits_to_keep=1).logits[0, -1])


def test_a_mode_that_is_denied_meanwhile_ends_there_and_plain_rows_go_on():
    model = sink_model("llama", dtype=torch.float64)
    asked = []

    def permits(mode):
        asked.append(mode)
        return len(asked) < 4

    requests = [(prompts()[0], MODES[1], {}), (prompts()[2], OFF, {})]
    found, ends = run(model, requests, permits, end=())
    assert ends == ["refused", "length"]
    assert len(found[0]) == 3
    assert len(found[1]) == 10
    assert OFF not in asked


def test_a_cancelled_row_stops():
    model = sink_model("llama")
    written = []

    def emit(piece):
        written.append(piece)
        generation.cancelled = len(written) == 2

    generation = Generation(prompts()[0], Letters(), max_tokens=10, end=(), emit=emit)
    decode(model, [generation], permits=lambda mode: True)
    assert (len(written), generation.produced, generation.finished) == (2, 2, None)


@pytest.mark.parametrize("beside", [0, 3])
def test_a_seed_gives_the_same_text_whatever_is_beside_it(beside):
    model = sink_model("llama", dtype=torch.float64)
    sampled = Sampling(temperature=1.5, top_p=0.9, seed=11)
    mine = (prompts()[0], MODES[1], {"sampling": sampled})
    others = [(prompt, OFF, {"sampling": Sampling(seed=None)}) for prompt in prompts()[:beside]]
    found, _ = run(model, [*others, mine], end=())
    assert found[-1] == run(model, [mine], end=())[0][0]
    greedy, _ = run(model, [(*mine[:2], {"sampling": GREEDY})], end=())
    assert found[-1] != greedy[0]
    assert found[-1] != run(model, [(*mine[:2], {"sampling": sampled, "number": 1})], end=())[0][0]
