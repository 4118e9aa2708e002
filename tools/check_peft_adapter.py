#!/usr/bin/env python3
"""Does Python's peft see in an adapter folder what we see in it?

    check_peft_adapter.py BASE ADAPTER EXPECTED [--key NAME] [--ids NAME] [--tolerance T] [--merged]

Loads the Hugging Face model folder BASE with transformers, puts the adapter folder ADAPTER on it with peft, runs the ids in the
safetensors file EXPECTED (`input_ids`, (batch, seq)) and compares with the logits there (`lora_logits` or `logits`,
(batch, seq, vocabulary)). Prints the largest difference relative to the largest logit and exits 1 if it exceeds the tolerance.
Where EXPECTED has tensors `delta.<module>` instead, compares the update that peft computes for each module, and which there are.

Folders to check: `KRYSTAL_RESAVED=DIR cargo test -p dynlora-core` writes an adapter per fixture into DIR.

Made for transformers 5.23, peft 0.21, torch 2.15; runs on the CPU in f32 and downloads nothing.
"""

import argparse
import os
import sys
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM


def compare_updates(arguments: argparse.Namespace, expected: dict) -> int:
    base = AutoModelForCausalLM.from_pretrained(arguments.base, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, arguments.adapter).eval()
    found = {
        "delta." + name.removeprefix("base_model.model."): module.get_delta_weight("default")
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
    }
    if found.keys() != expected.keys():
        print(f"DIFFERENT: peft adapts other modules: {sorted(found.keys() ^ expected.keys())}")
        return 1
    worst = max(((found[k] - expected[k]).abs().max() / expected[k].abs().max()).item() for k in found)
    verdict = "ok" if worst <= arguments.tolerance else "DIFFERENT"
    print(f"{verdict}: {len(found)} updates, largest relative difference {worst:.2e} (tolerance {arguments.tolerance:g})")
    return 0 if verdict == "ok" else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="Hugging Face model folder")
    parser.add_argument("adapter", help="PEFT adapter folder")
    parser.add_argument("expected", help="safetensors file with input ids and logits, or with updates")
    parser.add_argument("--key", help="tensor with the expected logits (default: lora_logits, else logits)")
    parser.add_argument("--ids", default="input_ids", help="tensor with the token ids")
    parser.add_argument("--tolerance", type=float, default=2e-4, help="relative to the largest logit")
    parser.add_argument("--merged", action="store_true", help="merge the adapter into the weights first")
    arguments = parser.parse_args()

    # peft warns, and goes on, when keys of the file are missing or unknown: here that is a failure.
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)

    expected = load_file(arguments.expected)
    if any(name.startswith("delta.") for name in expected):
        return compare_updates(arguments, expected)
    key = arguments.key or ("lora_logits" if "lora_logits" in expected else "logits")
    ids = expected[arguments.ids].long()
    base = AutoModelForCausalLM.from_pretrained(arguments.base, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        before = base(ids).logits
        model = PeftModel.from_pretrained(base, arguments.adapter).eval()
        adapted = sum(1 for name, _ in model.named_parameters() if ".lora_A." in name)
        if arguments.merged:
            model = model.merge_and_unload(safe_merge=True)
        found = model(ids).logits

    wanted = expected[key].float()
    if found.shape != wanted.shape:
        print(f"expected logits of shape {tuple(wanted.shape)}, peft gives {tuple(found.shape)}")
        return 1
    largest = wanted.abs().max().item()
    difference = (found - wanted).abs().max().item() / largest
    effect = (before - wanted).abs().max().item() / largest
    verdict = "ok" if difference <= arguments.tolerance else "DIFFERENT"
    print(
        f"{verdict}: {adapted} adapted modules, largest relative difference {difference:.2e} "
        f"(tolerance {arguments.tolerance:g}, effect of the adapter {effect:.2e})"
    )
    return 0 if verdict == "ok" else 1


if __name__ == "__main__":
    sys.exit(main())
