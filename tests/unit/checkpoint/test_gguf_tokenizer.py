"""Tokenizers in GGUF files against transformers as a reader, and llama.cpp's rules written out again."""

import json

import gguf
import pytest
import regex
from gguf_files import AWKWARD, SPLITTERS, WORDS, byte_level, cached_tokenizer, model_for, value, written
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Tokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer

import memsinks
from memsinks.checkpoint.gguf_tokenizer import read_vocabulary
from memsinks.errors import ConfigError


@pytest.fixture(scope="module")
def read_tokenizers(tmp_path_factory):
    """Tokenizers as transformers reads them from files."""
    found = {}
    for splitting in SPLITTERS:
        folder = tmp_path_factory.mktemp(splitting)
        tokenizer = cached_tokenizer(splitting)
        written(model_for(tokenizer, "llama"), folder / "m.gguf", tokenizer=tokenizer)
        found[splitting] = AutoTokenizer.from_pretrained(folder, gguf_file="m.gguf")
    return found


@pytest.mark.parametrize("splitting", SPLITTERS)
@settings(deadline=None, max_examples=50)
@given(text=st.one_of(st.sampled_from(AWKWARD), st.text(max_size=40)))
@example(text="don't<|endoftext|> stop")
def test_transformers_reads_the_same_tokenizer(read_tokenizers, splitting, text):
    if splitting == "smollm" and any(c.isnumeric() for c in text):
        return  # transformers does not split digits there; the test with llama.cpp has them.
    ids = cached_tokenizer(splitting)(text)["input_ids"]
    again = read_tokenizers[splitting]
    assert again(text)["input_ids"] == ids
    assert again.decode(ids) == text


# Splitting

ANY_CASE = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
LLAMA_CPP = {
    "gpt-2": [GPT2],
    "smollm": [r"\p{N}", GPT2],
    "qwen2": [ANY_CASE % r"\p{N}"],
    "llama-bpe": [ANY_CASE % r"\p{N}{1,3}"],
}
"""The expressions behind the names, in src/llama-vocab.cpp of llama.cpp."""


def as_llama_cpp_splits(text, expressions):
    """Each expression cuts the pieces of the one before at its matches; what lies between is a piece too."""
    pieces = [text] if text else []
    for expression in expressions:
        cut = []
        for piece in pieces:
            end = 0
            for match in regex.finditer(expression, piece):
                cut += [piece[end : match.start()], match.group()]
                end = match.end()
            cut.append(piece[end:])
        pieces = [piece for piece in cut if piece]
    return pieces


@pytest.mark.parametrize("splitting", SPLITTERS)
@given(text=st.text(st.sampled_from("ab É漢1٣½ ,.!'sSlLtT\n\r\t\u00a0🙂_-"), max_size=30))
@example(text="don't we'LL 12  345\r\n\n  x ")
def test_the_name_stands_for_the_tokenizer_s_own_splitting(splitting, text):
    tokenizer = cached_tokenizer(splitting)
    assert read_vocabulary(tokenizer, len(tokenizer)).splitting == splitting
    steps = SPLITTERS[splitting]
    # The last step only spells bytes, unless it has the pattern; both name places in the text.
    places = [place for _, place in pre_tokenizers.Sequence(steps).pre_tokenize_str(text)]
    assert [text[start:end] for start, end in places] == as_llama_cpp_splits(text, LLAMA_CPP[splitting])


def split_by(*steps):
    def change(tokenizer):
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(list(steps))

    return change


def test_steps_count_by_what_they_do():
    tokenizer = byte_level("gpt-2")
    nested = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"\p{N}"), "isolated")])
    split_by(nested, pre_tokenizers.ByteLevel(add_prefix_space=False))(tokenizer)
    assert read_vocabulary(tokenizer, 330).splitting == "smollm"


def set_backend(**attributes):
    def change(tokenizer):
        for name, attribute in attributes.items():
            setattr(tokenizer.backend_tokenizer, name, attribute)

    return change


def set_model(name, attribute):
    return lambda tokenizer: setattr(tokenizer.backend_tokenizer.model, name, attribute)


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
REFUSED = {
    "no splitting": (set_backend(pre_tokenizer=None), "not at all"),
    "bytes alone": (set_backend(pre_tokenizer=BYTES), "no name known"),
    "words alone": (split_by(pre_tokenizers.Whitespace()), "Whitespace"),
    "a blank before": (set_backend(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True)), "no name known"),
    "digits together": (
        split_by(pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=False)),
        "individual_digits",
    ),
    "another pattern": (split_by(pre_tokenizers.Split(Regex(r"\p{N}{2}"), "isolated"), BYTES), "N}{2}"),
    "matches removed": (split_by(pre_tokenizers.Split(Regex(WORDS % r"\p{N}"), "removed"), BYTES), "Removed"),
    "the other way round": (
        split_by(pre_tokenizers.ByteLevel(add_prefix_space=False), pre_tokenizers.Digits(individual_digits=True)),
        "no name known",
    ),
    "lower case": (set_backend(normalizer=normalizers.Lowercase()), "Lowercase"),
    "merges ignored": (set_model("ignore_merges", True), "ignore_merges is True"),
    "dropout": (set_model("dropout", 0.5), "dropout 0.5"),
    "ends of words": (set_model("end_of_word_suffix", "</w>"), "end_of_word_suffix"),
    "no end token": (lambda tokenizer: setattr(tokenizer, "eos_token", None), "no end token"),
    "a token that takes blanks": (
        lambda tokenizer: tokenizer.add_tokens(AddedToken("<x>", lstrip=True)),
        "'<x>' has lstrip",
    ),
    "another token before": (
        lambda tokenizer: (
            tokenizer.add_special_tokens({"cls_token": "<cls>"}),
            set_backend(post_processor=processors.TemplateProcessing("<cls> $A", special_tokens=[("<cls>", 330)]))(
                tokenizer
            ),
        ),
        "before a text",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_tokenizer_that_llama_cpp_would_not_follow_is_refused(tmp_path, name):
    change, words = REFUSED[name]
    tokenizer = byte_level("gpt-2")
    change(tokenizer)
    with pytest.raises(ConfigError) as refusal:
        memsinks.export_gguf(model_for(tokenizer, "llama"), tmp_path / "m.gguf", tokenizer=tokenizer)
    assert words in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_other_kinds_of_tokenizers_are_refused():
    for model, name in (
        (models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"), "WordPiece"),
        (models.Unigram([("a", 0.0)]), "Unigram"),
    ):
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), eos_token="a")
        with pytest.raises(ConfigError, match=f"{name}, not byte-level BPE"):
            read_vocabulary(tokenizer, 10)
    with pytest.raises(ConfigError, match="no merges"):
        read_vocabulary(byte_level("gpt-2", size=257), 257)


# Vocabulary


def test_the_vocabulary_is_written(tmp_path):
    tokenizer = byte_level("smollm")
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.add_tokens(["two words"])
    tokenizer.chat_template = "{{ messages }}"
    reader = written(model_for(tokenizer, "qwen2", rows=340), tmp_path / "m.gguf", tokenizer=tokenizer)
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    stored = value(reader, "tokenizer.ggml.tokens")
    types = value(reader, "tokenizer.ggml.token_type")
    assert len(stored) == len(types) == len(set(stored)) == 340
    assert {token: i for i, token in enumerate(stored) if i < 332} == tokenizer.get_vocab()
    assert [stored[i] for i, kind in enumerate(types) if kind == gguf.TokenType.CONTROL] == ["<|endoftext|>", "<pad>"]
    assert [stored[i] for i, kind in enumerate(types) if kind == gguf.TokenType.USER_DEFINED] == ["two words"]
    assert [i for i, kind in enumerate(types) if kind == gguf.TokenType.UNUSED] == list(range(332, 340))
    assert [merge.split(" ") for merge in value(reader, "tokenizer.ggml.merges")] == spec["model"]["merges"]
    expected = {
        "model": "gpt2",
        "pre": "smollm",
        "bos_token_id": 0,
        "eos_token_id": 0,
        "padding_token_id": 330,
        "unknown_token_id": None,
        "add_bos_token": False,
        "add_eos_token": False,
    }
    assert {key: value(reader, f"tokenizer.ggml.{key}") for key in expected} == expected
    assert value(reader, "tokenizer.chat_template") == "{{ messages }}"
    again = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="m.gguf")
    assert again.get_input_embeddings().weight.shape[0] == 340


def test_a_vocabulary_larger_than_the_embedding_is_refused(tmp_path):
    model = model_for(cached_tokenizer("gpt-2"), "llama", rows=len(cached_tokenizer("gpt-2")) - 1)
    with pytest.raises(ConfigError, match=r"330 tokens, and the model's embedding 329 rows"):
        written(model, tmp_path / "m.gguf")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("template", ["$A", "<s> $A", "$A </s>", "<s> $A </s>"])
def test_tokens_around_a_text_are_those_that_the_tokenizer_adds(template):
    tokenizer = byte_level("gpt-2")
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    special = [("<s>", 330), ("</s>", 331)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(template, special_tokens=special)
    vocabulary = read_vocabulary(tokenizer, 332)
    assert (vocabulary.begin, vocabulary.end) == (330, 331)
    ids = tokenizer("the cat")["input_ids"]
    assert vocabulary.add_begin == (ids[0] == 330)
    assert vocabulary.add_end == (ids[-1] == 331)


def test_llama_cpp_is_told_of_a_begin_token_where_there_is_none():
    """Else it would be token 11."""
    tokenizer = byte_level("qwen2")
    tokenizer.bos_token = None
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    vocabulary = read_vocabulary(tokenizer, 330)
    assert (vocabulary.begin, vocabulary.add_begin) == (tokenizer.eos_token_id, False)


def test_holes_in_a_vocabulary_are_unused_tokens():
    vocab = {token: i + (i > 10) for i, token in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), "ab"])}
    backend = Tokenizer(models.BPE(vocab, [("a", "b")]))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    vocabulary = read_vocabulary(PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="ab"), 258)
    assert vocabulary.tokens[11] == "[PAD11]"
    assert vocabulary.types[10:13] == [1, 5, 1]


@pytest.mark.parametrize(("own", "splitting"), [(GPT2Tokenizer, "gpt-2"), (Qwen2Tokenizer, "qwen2")])
def test_the_families_own_classes_split_as_the_names_say(own, splitting):
    merges = [tuple(merge) for merge in json.loads(byte_level().backend_tokenizer.to_str())["model"]["merges"]]
    tokenizer = own(vocab=byte_level().get_vocab(), merges=merges, eos_token="<|endoftext|>")
    assert read_vocabulary(tokenizer, 330).splitting == splitting
