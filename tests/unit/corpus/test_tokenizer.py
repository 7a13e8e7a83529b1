import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from memsinks.corpus import encode_document, load_tokenizer, train_tokenizer
from memsinks.corpus import tokenizer as tokenizer_module
from memsinks.errors import InputError

TEXTS = [f"The {w} sat on the {w}, and the {w} was fat. " * 3 for w in ("cat", "hat", "bat", "mat")]


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
    if kind == "metaspace":  # it puts a blank before a text
        model = Tokenizer(models.BPE())
        model.pre_tokenizer = pre_tokenizers.Metaspace()
        model.train_from_iterator([text], trainers.BpeTrainer(vocab_size=300, show_progress=False))
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=model)
    if kind == "no cut fits":
        text = "x" * 5000
    (whole,) = encode_document(tokenizer, [text])
    monkeypatch.setattr(tokenizer_module, "LONG", 700)
    pieces = []
    encode = tokenizer_module._encode
    monkeypatch.setattr(tokenizer_module, "_encode", lambda t, texts: pieces.append(texts) or encode(t, texts))
    short, cut = encode_document(tokenizer, ["short", text])
    assert cut.tolist() == whole.tolist()
    assert short.tolist() == encode(tokenizer, ["short"])[0].tolist()
    longest = max(len(texts[0]) for texts in pieces)
    assert longest == 5000 if kind == "no cut fits" else longest < 900 or kind == "metaspace"


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
