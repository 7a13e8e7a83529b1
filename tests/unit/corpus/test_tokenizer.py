import json
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, GPT2Tokenizer, PreTrainedTokenizerFast

from memsinks.corpus import encode_document, encoding, load_tokenizer, train_tokenizer
from memsinks.corpus import tokenizer as tokenizer_module
from memsinks.corpus.encoder import FOLDER, load_encoder, save_encoder
from memsinks.errors import InputError

TEXTS = [f"The {w} sat on the {w}, and the {w} was fat. " * 3 for w in ("cat", "hat", "bat", "mat")]
SPLITTING = train_tokenizer([*TEXTS, "a b a b, don't 12 Ж ЖЖ"], 300).backend_tokenizer


def test_trained_tokenizer_round_trips(tmp_path):
    tokenizer = train_tokenizer(TEXTS, 270)
    assert len(tokenizer) == 270
    assert tokenizer.bos_token == tokenizer.eos_token == tokenizer.pad_token == "<|endoftext|>"
    tokenizer.save_pretrained(tmp_path)
    strange = " A  line\n\twith é, 漢字, \x00 and 🙂  "
    for loaded in (AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path)):
        assert loaded.get_vocab() == tokenizer.get_vocab()
        assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id) == (0, 0, 0)
        assert loaded.decode(encode_document(loaded, [strange])[0]) == strange


def test_training_does_not_depend_on_order():
    a, b = train_tokenizer(TEXTS, 320), train_tokenizer(iter(TEXTS[::-1]), 320)
    assert a.backend_tokenizer.to_str() == b.backend_tokenizer.to_str()


def test_encoding_adds_and_honours_no_special_token():
    tokenizer = train_tokenizer(TEXTS, 300)
    plain, fake = encode_document(tokenizer, ["the cat", "the<|endoftext|>cat"])
    assert plain.dtype == np.uint32
    assert tokenizer.eos_token_id not in plain
    assert tokenizer.eos_token_id not in fake
    assert tokenizer.decode(fake) == "the<|endoftext|>cat"


def test_errors(tmp_path):
    with pytest.raises(InputError, match=r"vocab_size is 256; .* at least 257"):
        train_tokenizer(TEXTS, 256)
    with pytest.raises(InputError, match="no tokenizer can be loaded from here"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="no tokenizer can be loaded from here"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("kind", ["trained", "metaspace", "no cut fits"])
def test_a_long_text_gives_the_tokens_of_the_whole(monkeypatch, kind):
    text = " \n\n".join(f"Paragraph {i}, with words:  two blanks and\ttabs. " * 3 for i in range(200))
    tokenizer = train_tokenizer([text], 400)
    # Not the pieces of tokenizers that split at blanks, which have tests of their own.
    tokenizer.add_tokens(["Paragraph 9999"])
    if kind == "metaspace":  # it puts a blank before a text
        model = Tokenizer(models.BPE())
        model.pre_tokenizer = pre_tokenizers.Metaspace()
        model.train_from_iterator([text], trainers.BpeTrainer(vocab_size=300, show_progress=False))
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=model)
    if kind == "no cut fits":
        text = "x" * 5000
    (whole,) = encode_document(tokenizer, [text])
    pieces, fast = [], encoding.fast

    def noted(backend):
        return lambda texts: pieces.append(texts) or fast(backend)(texts)

    monkeypatch.setattr(encoding, "LONG", 700)
    monkeypatch.setattr(tokenizer_module, "fast", noted)
    short, cut = encode_document(tokenizer, ["short", text])
    assert cut.tolist() == whole.tolist()
    assert short.tolist() == encode_document(tokenizer, ["short"])[0].tolist()
    longest = max(len(texts[0]) for texts in pieces)
    assert longest == 5000 if kind == "no cut fits" else longest < 900 or kind == "metaspace"


@given(st.text(st.sampled_from("ab éЖ漢 1 ,'s\n\t ́-"), max_size=300))
@example("don't  stop, it 's a a\n b  1 2 á b")
def test_words_of_tokenizers_that_split_at_blanks_have_the_tokens_of_the_whole(text):
    whole = SPLITTING.encode(text, add_special_tokens=False).ids
    with mock.patch.object(encoding, "SHORT", 1):
        pieces = list(encoding._words(text))
        found = encoding.encode_texts(encoding.fast(SPLITTING), [text, text], at_blanks=True)
    assert "".join(pieces) == text
    assert [tokens.tolist() for tokens in found] == [whole, whole]


def test_long_texts_go_in_pieces_where_a_tokenizer_splits_at_blanks():
    text = "Words and more words, of which none is long. " * 1000
    assert 10 < len(list(encoding._words(text))) < 20
    assert [len(piece) for piece in encoding._words("x" * 10_000)] == [10_000]


@pytest.mark.parametrize(
    "change",
    ["no pattern", "another splitter", "a blank before", "a normaliser", "an added token", "dropout", "no BPE"],
)
def test_only_tokenizers_that_split_at_blanks_are_taken_for_such(change):
    backend = Tokenizer.from_str(SPLITTING.to_str())
    assert encoding.splits_at_blanks(backend)
    if change == "no pattern":
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    elif change == "another splitter":
        whole = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), whole])
    elif change == "a blank before":
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    elif change == "a normaliser":
        backend.normalizer = normalizers.Replace("a b", "c")
    elif change == "an added token":
        backend.add_tokens(["a b"])
    elif change == "dropout":
        backend.model.dropout = 0.1
    else:
        backend.model = models.WordLevel({"a": 0}, unk_token="a")
    assert not encoding.splits_at_blanks(backend)


@pytest.mark.parametrize("digits", [True, False])
def test_digits_may_be_split_off_before(digits):
    backend = Tokenizer.from_str(SPLITTING.to_str())
    steps = [pre_tokenizers.Digits(individual_digits=digits), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    assert encoding.splits_at_blanks(backend)


@pytest.mark.parametrize("general", [True, False])
def test_an_encoder_encodes_as_its_tokenizer(tmp_path, general):
    tokenizer = train_tokenizer(TEXTS, 300)
    if not general:
        tokenizer = GPT2Tokenizer(vocab=tokenizer.get_vocab(), merges=[("a", "t")], eos_token="<|endoftext|>")
    tokenizer.backend_tokenizer.enable_truncation(5)
    tokenizer.backend_tokenizer.enable_padding(length=9)
    tokenizer.save_pretrained(tmp_path / FOLDER)
    save_encoder(tmp_path)
    encoder, loaded = load_encoder(tmp_path), load_tokenizer(tmp_path / FOLDER)
    texts = [TEXTS[0], "the<|endoftext|>cat", "漢 cat  " * 2000]
    for own, known in zip(encoder.encode(texts), encode_document(loaded, texts), strict=True):
        assert own.tolist() == known.tolist()
    assert (encoder.bos, encoder.eos) == ((loaded.bos_token_id,), (loaded.eos_token_id,))
    assert encoder.size == len(loaded)
    assert load_encoder(tmp_path) is encoder  # read once


def test_a_folder_that_names_the_general_class_is_loaded_as_by_autotokenizer(tmp_path):
    train_tokenizer(TEXTS, 300).save_pretrained(tmp_path / "a")
    assert json.loads((tmp_path / "a" / "tokenizer_config.json").read_text())["tokenizer_class"] == "TokenizersBackend"
    for name, loaded in (("b", load_tokenizer(tmp_path / "a")), ("c", AutoTokenizer.from_pretrained(tmp_path / "a"))):
        loaded.save_pretrained(tmp_path / name)
    for file in (tmp_path / "b").iterdir():
        assert file.read_bytes() == (tmp_path / "c" / file.name).read_bytes()


def test_a_tokenizer_is_left_as_it_was():
    tokenizer = train_tokenizer(TEXTS, 300)
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(5, strategy="only_first")
    backend.enable_padding(length=9, pad_id=3, direction="left")
    before = backend.to_str(), backend.encode_special_tokens
    (found,) = encode_document(tokenizer, [TEXTS[0]])
    assert len(found) > 9
    assert tokenizer.decode(found) == TEXTS[0]
    assert (backend.to_str(), backend.encode_special_tokens) == before
