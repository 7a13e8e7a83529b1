"""The model that is trained where the user names none."""

import torch
from transformers import AutoModelForCausalLM

from memsinks.corpus.tokenizer import train_tokenizer
from memsinks.training.model import small_llama


def test_a_deep_one_has_a_gradient_from_the_beginning_of_a_text():
    tokenizer = train_tokenizer(["once upon a time there was a small cat"], 300)
    config = small_llama(tokenizer, hidden=32, layers=24, heads=2, width=64, max_length=64)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    text = torch.tensor(
        [[tokenizer.bos_token_id, *tokenizer("once upon a time", add_special_tokens=False)["input_ids"]]]
    )
    model(input_ids=text, labels=text).loss.backward()
    norms = [parameter.grad.norm() for parameter in model.parameters()]
    assert all(0 < norm < 100 for norm in norms)
    # As a padding token it would have none.
    assert model.get_input_embeddings().weight.grad[tokenizer.bos_token_id].any()
