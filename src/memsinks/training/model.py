"""The model that is trained where the user names none."""

from transformers import LlamaConfig, PreTrainedTokenizerBase


def small_llama(
    tokenizer: PreTrainedTokenizerBase, *, hidden: int, layers: int, heads: int, width: int, max_length: int
) -> LlamaConfig:
    """A Llama of ``width`` MLP neurons for the tokenizer's vocabulary, its output tied to its input embedding.

    It has no padding token: its embedding would be zero for good, and the tokenizer's is also what every text begins
    with. Each norm multiplies the gradient there by a thousand, which overflows in a deep model.
    """
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
