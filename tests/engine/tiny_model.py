"""Writes a tiny Llama: random weights, a real tokenizer and a chat template. All that vLLM needs, nothing to download.

Runs inside the engine's own environment (it has `torch`, `tokenizers`, `transformers`): `python tiny_model.py FOLDER`.

The answers are gibberish, but they are the same gibberish every time: the weights are drawn wide enough that the best
token leads the next by thousands of float32 rounding errors, so greedy decoding does not depend on which requests
happen to share a batch.
"""

import pydoc_data.topics
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 4096
SPECIALS = ["<|pad|>", "<|eot|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on Python's own help topics, which every Python carries.

    Runs of white space are folded first, so that few tokens are blank: see `discourage`.
    """
    tokens = Tokenizer(models.BPE())
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    tokens.train_from_iterator(
        (" ".join(topic.split()) for topic in pydoc_data.topics.topics.values()),
        trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=SPECIALS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        ),
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token="<|eot|>", pad_token="<|pad|>")
    fast.chat_template = CHAT_TEMPLATE
    return fast


def llama() -> LlamaForCausalLM:
    torch.manual_seed(7)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=8192,
            eos_token_id=SPECIALS.index("<|eot|>"),
            pad_token_id=SPECIALS.index("<|pad|>"),
            bos_token_id=None,
            initializer_range=0.2,
            dtype="float32",
        )
    )


@torch.no_grad()
def discourage(model: LlamaForCausalLM, token_ids: list[int]) -> None:
    """Makes the model shun these tokens, though a Llama's output layer has no bias.

    Dimension 0 of the residual stream is fixed to a constant that no layer writes to, and so serves as one. JSON may
    hold white space anywhere: without this a random model, held to a grammar, would emit blanks until it runs out of
    tokens and never finish a tool call.
    """
    model.model.embed_tokens.weight[:, 0] = 1.0
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight[0] = 0.0
        layer.mlp.down_proj.weight[0] = 0.0
    model.lm_head.weight[:, 0] = 0.0
    model.lm_head.weight[token_ids, 0] = -100.0


def main(folder: Path) -> None:
    tokens = tokenizer()
    model = llama()
    discourage(model, [i for i in range(VOCABULARY) if not tokens.decode([i]).strip()])
    tokens.save_pretrained(folder)
    model.save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
