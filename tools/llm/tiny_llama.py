"""Writes a tiny language model with random weights as a GGUF file, for tests of servers that run GGUF files.

    python tools/llm/tiny_llama.py FILE.gguf

One token per byte, a ChatML template. What it says is noise, much of it not UTF-8: which is what a client has to survive.
Needs the packages gguf and numpy.
"""

import sys

import gguf
import numpy

WIDTH, HIDDEN, LAYERS, HEADS, CONTEXT = 64, 128, 2, 4, 2048
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokens():
    """The 256 characters by which GPT-2's vocabulary writes bytes: printable ones stand for themselves, others from U+0100 on."""
    tokens, moved = [], 0
    for byte in range(256):
        if 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte <= 255:
            tokens.append(chr(byte))
        else:
            tokens.append(chr(256 + moved))
            moved += 1
    return tokens


def main(path):
    random = numpy.random.default_rng(1)
    tokens = byte_tokens()
    # llama.cpp refuses a vocabulary without merges.
    merged = tokens[ord(" ")] + "e"
    tokens += [merged, "<|im_start|>", "<|im_end|>"]
    start, end = len(tokens) - 2, len(tokens) - 1

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny-llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * (len(tokens) - 2) + [gguf.TokenType.CONTROL] * 2)
    writer.add_token_merges([f"{tokens[ord(' ')]} e"])
    writer.add_bos_token_id(start)
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)

    def tensor(name, *shape, scale):
        writer.add_tensor(name, (random.standard_normal(shape) * scale).astype(numpy.float32))

    tensor("token_embd.weight", len(tokens), WIDTH, scale=0.3)
    tensor("output.weight", len(tokens), WIDTH, scale=0.3)
    writer.add_tensor("output_norm.weight", numpy.ones(WIDTH, numpy.float32))
    for layer in range(LAYERS):
        for norm in ["attn_norm", "ffn_norm"]:
            writer.add_tensor(f"blk.{layer}.{norm}.weight", numpy.ones(WIDTH, numpy.float32))
        for name in ["attn_q", "attn_k", "attn_v", "attn_output"]:
            tensor(f"blk.{layer}.{name}.weight", WIDTH, WIDTH, scale=0.1)
        for name, shape in [("ffn_gate", (HIDDEN, WIDTH)), ("ffn_up", (HIDDEN, WIDTH)), ("ffn_down", (WIDTH, HIDDEN))]:
            tensor(f"blk.{layer}.{name}.weight", *shape, scale=0.1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1])
