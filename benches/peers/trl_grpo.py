"""The peer of `cargo xtask bench grpo`: TRL's GRPOTrainer on the same workload, on the CPU, without any download.

The benchmark runs this script with the Python of the environment that it is given. The last line of stdout is one JSON object:
completion tokens, seconds of processor time and of the wall from before `train()` to after it, and the peak memory in MiB.
"""

import argparse
import json
import os
import tempfile
import time

# Set before the libraries read them.
for offline in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
    os.environ[offline] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, set_seed
from trl import GRPOConfig, GRPOTrainer

PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("hidden-size", "intermediate-size", "layers", "heads", "kv-heads", "group", "completion", "threads", "steps"):
        parser.add_argument("--" + name, type=int, required=True)
    parser.add_argument("--alphabet", required=True, help="one token per character, after three special ones")
    return parser.parse_args()


def character_tokenizer(alphabet):
    vocabulary = {token: i for i, token in enumerate([PAD, EOS, UNK, *alphabet])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNK))
    tokenizer.pre_tokenizer = Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, unk_token=UNK, padding_side="left"
    )


def random_model(options, tokenizer):
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=options.hidden_size,
        intermediate_size=options.intermediate_size,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.kv_heads,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return Qwen2ForCausalLM(config).to(torch.float32)


def reward_functions(counted):
    """The two rewards; `counted` becomes the list of lengths of all completions, in tokens."""

    def digit_share(completions, completion_ids, **_):
        counted.extend(map(len, completion_ids))
        return [sum(map(str.isdigit, text)) / max(len(text), 1) for text in completions]

    def exact_prefix(completions, answer, **_):
        return [float(text.lstrip().startswith(right)) for text, right in zip(completions, answer)]

    return [digit_share, exact_prefix]


def peak_mib():
    # Unlike getrusage, this does not count what the parent process held before it started us.
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return None


def main():
    options = arguments()
    torch.set_num_threads(options.threads)
    set_seed(0)
    tokenizer = character_tokenizer(options.alphabet)
    lengths = []
    records = [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a in range(10) for b in range(10)]
    with tempfile.TemporaryDirectory() as directory:
        config = GRPOConfig(
            output_dir=directory,
            use_cpu=True,
            bf16=False,
            fp16=False,
            gradient_checkpointing=False,
            dataloader_pin_memory=False,
            per_device_train_batch_size=options.group,
            gradient_accumulation_steps=1,
            num_generations=options.group,
            max_completion_length=options.completion,
            max_steps=options.steps,
            learning_rate=1e-4,
            max_grad_norm=1.0,
            temperature=1.0,
            beta=0.0,
            loss_type="dapo",
            seed=0,
            report_to="none",
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
            # No end of sequence: every completion has the full length, as on the other side.
            generation_kwargs={"suppress_tokens": [tokenizer.eos_token_id]},
        )
        trainer = GRPOTrainer(
            model=random_model(options, tokenizer),
            args=config,
            reward_funcs=reward_functions(lengths),
            train_dataset=Dataset.from_list(records),
            processing_class=tokenizer,
            peft_config=LoraConfig(
                r=8, lora_alpha=16, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], task_type="CAUSAL_LM"
            ),
        )
        cpu, wall = time.process_time(), time.perf_counter()
        trainer.train()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    print(json.dumps({"tokens": sum(lengths), "cpu_s": cpu, "wall_s": wall, "peak_mib": peak_mib()}), flush=True)


if __name__ == "__main__":
    main()
