#!/usr/bin/env python3
"""Does Python's peft see in a saved hierarchy what we see in it?

    check_dynamic_adapter.py BASE HIERARCHY [--tolerance T]

Loads the Hugging Face model folder BASE with transformers and puts on it, one by one, the five adapters of HIERARCHY/stack, and
HIERARCHY/fused. Compares for each module the sum of the five updates with the fused one (and with HIERARCHY/merged where it is
there), and the logits of the five adapters at once with those of the fused one. Prints the largest differences relative to the
largest value and exits 1 if one exceeds the tolerance. Adapters cut to a rank (HIERARCHY/svd-R) must be as far from the whole as
dynlora.json says. The safetensors files must name the snapshot that dynlora.json names, and the fused configuration must be what
vLLM reads: one rank, alpha = r, no patterns.

Folders to check: `KRYSTAL_HIERARCHIES=DIR cargo test -p dynlora-core hierarchies_for_real` writes one per fixture into DIR.

Made for transformers 5.23, peft 0.21, torch 2.15; runs on the CPU in f32 and downloads nothing.
"""

import argparse
import json
import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

LEVELS = ["foundation", "domain", "swarm", "agent", "context"]


def check_form(folder: Path, description: dict) -> list[str]:
    """What is wrong with the files before any is loaded."""
    wrong = []
    config = json.loads((folder / "fused/adapter_config.json").read_text())
    if config["lora_alpha"] != config["r"] or config["rank_pattern"] or config["alpha_pattern"]:
        wrong.append("fused: expected alpha = r and no patterns")
    ranks = set()
    for path in sorted(folder.rglob("*.safetensors")):
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("dynlora.provenance") != description["snapshot"]:
                wrong.append(f"{path.relative_to(folder)}: names another snapshot")
            if path.parent.name == "fused":
                ranks = {file.get_slice(key).get_shape()[0] for key in file.keys() if ".lora_A." in key}
    if ranks != {config["r"]}:
        wrong.append(f"fused: expected every module to have rank {config['r']}, found {sorted(ranks)}")
    return wrong


def updates(model: PeftModel, adapter: str) -> dict:
    return {
        name.removeprefix("base_model.model."): module.get_delta_weight(adapter).double()
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight") and adapter in module.lora_A
    }


def distance(found: dict, expected: dict) -> float:
    if found.keys() != expected.keys():
        raise SystemExit(f"DIFFERENT: peft adapts other modules: {sorted(found.keys() ^ expected.keys())}")
    return max(((found[k] - expected[k]).abs().max() / expected[k].abs().max()).item() for k in expected)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="Hugging Face model folder")
    parser.add_argument("hierarchy", type=Path, help="folder of a saved hierarchy of one agent")
    parser.add_argument("--tolerance", type=float, default=1e-6, help="of updates, relative to the largest value")
    arguments = parser.parse_args()

    # peft warns, and goes on, when keys of the file are missing or unknown: here that is a failure.
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    # Several adapters on one model are the point here.
    warnings.filterwarnings("ignore", message=".*second.*adapter|.*multiple adapters.*|.*Already found a `peft_config`.*")

    folder = arguments.hierarchy
    description = json.loads((folder / "dynlora.json").read_text())
    failures = check_form(folder, description)

    base = AutoModelForCausalLM.from_pretrained(arguments.base, dtype=torch.float32, attn_implementation="eager")
    torch.manual_seed(0)
    ids = torch.randint(3, base.config.vocab_size, (2, 12))
    with torch.no_grad():
        before = base(ids).logits
        model = PeftModel.from_pretrained(base, folder / "stack" / LEVELS[0], adapter_name=LEVELS[0]).eval()
        others = {level: folder / "stack" / level for level in LEVELS[1:]}
        others |= {path.name: path for path in [folder / "fused", *sorted(folder.glob("svd-*"))]}
        for name, path in others.items():
            model.load_adapter(path, adapter_name=name)

        fused = updates(model, "fused")
        layers = [updates(model, level) for level in LEVELS]
        summed = {name: sum(layer[name] for layer in layers) for name in fused}
        differences = {"updates, stack summed beside fused": distance(summed, fused)}
        if (folder / "merged/delta.safetensors").exists():
            merged = load_file(folder / "merged/delta.safetensors")
            merged = {name.removeprefix("delta."): value.double() for name, value in merged.items()}
            differences["updates, merged beside fused"] = distance(merged, fused)

        model.base_model.set_adapter(LEVELS)
        stacked = model(ids).logits
        model.base_model.set_adapter("fused")
        once = model(ids).logits
        largest = once.abs().max().item()
        effect = (once - before).abs().max().item() / largest
        logits = (stacked - once).abs().max().item() / largest

    for what, difference in differences.items():
        verdict = "ok" if difference <= arguments.tolerance else "DIFFERENT"
        print(f"{verdict}: {len(fused)} {what}: largest relative difference {difference:.2e} (tolerance {arguments.tolerance:g})")
        failures += [what] if verdict != "ok" else []
    # Five products are rounded one by one, one product once: f32 through the whole model.
    verdict = "ok" if logits <= 1e-5 and effect > 1e-3 else "DIFFERENT"
    print(f"{verdict}: logits, five adapters beside fused: {logits:.2e} (tolerance 1e-05, effect of the stack {effect:.2e})")
    failures += ["logits"] if verdict != "ok" else []
    for name, truncation in description["truncations"].items():
        cut = updates(model, name)
        lost = sum((cut[k] - fused[k]).square().sum() for k in fused).sqrt().item()
        relative = abs(lost - truncation["frobenius_error"]) / max(lost, 1e-12)
        verdict = "ok" if relative <= 1e-4 else "DIFFERENT"
        print(f"{verdict}: {name} loses {lost:.6f} of the Frobenius norm, recorded {truncation['frobenius_error']:.6f}")
        failures += [name] if verdict != "ok" else []
    for failure in failures:
        print(f"DIFFERENT: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
