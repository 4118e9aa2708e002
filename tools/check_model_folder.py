#!/usr/bin/env python3
"""Check what krystal-lm writes and renders against Python's transformers.

Needs transformers (4.51 or later, or 5) with torch. Not part of the tests that `cargo` runs.

  cargo run -p krystal-lm --example write_model_folder -- OUT [SOURCE]
  python tools/check_model_folder.py folder OUT [--source SOURCE]
      loads OUT in transformers: no tensor missing or left over, values and order of the tensors, configuration and
      token ids as OUT/expected.json says. With SOURCE (the folder that was loaded and saved again): equal logits.

  python tools/check_model_folder.py templates [--update]
      renders every template of chat_template/constructs.txt with transformers' jinja2 environment and compares (or
      writes the rendered texts anew).
"""
import argparse
import datetime
import json
import os
import pathlib
import sys

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", CUDA_VISIBLE_DEVICES="")

CONSTRUCTS = pathlib.Path(__file__).parent.parent / "crates/krystal-lm/src/chat_template/constructs.txt"


def check(what, found, expected):
    if found != expected:
        sys.exit(f"FAILED: {what}:\n  transformers {found!r}\n  krystal-lm   {expected!r}")


def check_folder(folder, source):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast

    expected = json.loads((folder / "expected.json").read_text())
    config = AutoConfig.from_pretrained(folder)
    for name, value in expected["config"].items():
        if name == "rope_theta":
            parameters = getattr(config, "rope_parameters", None) or {}
            check(name, parameters.get("rope_theta", getattr(config, "rope_theta", None)), value)
        elif name == "rope_scaling":
            found = getattr(config, "rope_parameters", None) or config.rope_scaling or {}
            for key, value in (value or {"rope_type": "default"}).items():
                check(f"rope {key}", found.get(key, "default"), value)
        elif name not in ("torch_dtype", "architectures"):
            check(name, getattr(config, name), value)
    check("eos of generation_config.json", GenerationConfig.from_pretrained(folder).eos_token_id,
          expected["config"]["eos_token_id"])

    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, attn_implementation="eager")
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        check(kind, sorted(info[kind]), [])
    parameters = {name: value.detach().float() for name, value in model.named_parameters()}
    check("names and order of the tensors", list(parameters), [tensor["name"] for tensor in expected["tensors"]])
    for tensor in expected["tensors"]:
        value = parameters[tensor["name"]]
        check(f"shape of {tensor['name']}", list(value.shape), tensor["shape"])
        check(f"values of {tensor['name']}", value.flatten()[:: tensor["stride"]].tolist(), tensor["values"])

    # What tokenizer.json says. For model_type qwen2, AutoTokenizer of transformers 5 puts Qwen's own pre-tokenizer and
    # normalizer in the place of those of the file, which then gives other tokens.
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    automatic = AutoTokenizer.from_pretrained(folder)
    same = all(automatic.encode(case["text"]) == case["ids"] for case in expected["texts"])
    if not same and config.model_type == "qwen2":
        print("note: AutoTokenizer replaces parts of this tokenizer.json by Qwen's own; the file itself is checked")
    else:
        check("ids by AutoTokenizer equal", same, True)
    for case in expected["texts"]:
        check(f"ids of {case['text']!r}", tokenizer.encode(case["text"]), case["ids"])
        decoded = tokenizer.decode(case["ids"], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        check(f"text of {case['ids']}", decoded, case["decoded"])
        shown = tokenizer.decode(case["ids"], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        check(f"shown text of {case['ids']}", shown, case["shown"])
    for role in ("bos", "eos", "pad", "unk"):
        check(f"{role} token", getattr(tokenizer, f"{role}_token_id"), expected["special"][role])

    if source:
        original = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, attn_implementation="eager")
        ids = torch.arange(40).reshape(2, 20) % model.config.vocab_size
        with torch.no_grad():
            difference = (model(ids).logits - original(ids).logits).abs().max().item()
        check("greatest difference of logits from the source", difference, 0.0)
    print(f"ok: {folder}: {len(expected['tensors'])} tensors, {len(expected['texts'])} texts")


def check_templates(update):
    from transformers.utils import chat_template_utils

    messages = [
        {"role": "system", "content": " Be brief. "},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "<think>hm</think>\n\nHi"},
        {"role": "user", "content": "Bye"},
    ]
    tools = [{"type": "function", "function": {"name": "add", "description": "Adds <a> & 'b' \u00e9", "parameters": {
        "type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"], "x": [1.0, 1e-7, None, True]}}}]
    environment = chat_template_utils._compile_jinja_template("").environment
    environment.globals["strftime_now"] = lambda format: datetime.date(2024, 7, 6).strftime(format)
    cases = CONSTRUCTS.read_text().split("=== ")[1:]
    text = ""
    for case in cases:
        name, rest = case.split("\n", 1)
        source, expected = rest.split("\n--- rendered\n")
        rendered = environment.from_string(source).render(
            messages=messages, tools=tools, documents=None, add_generation_prompt=True, bos_token="<s>",
            eos_token="</s>", enable_thinking=False)
        if not update:
            check(name, rendered, expected[:-1])
        text += f"=== {name}\n{source}\n--- rendered\n{rendered}\n"
    if update:
        CONSTRUCTS.write_text(text)
    print(f"ok: {len(cases)} templates")


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
commands = parser.add_subparsers(dest="command", required=True)
folder = commands.add_parser("folder")
folder.add_argument("folder", type=pathlib.Path)
folder.add_argument("--source", type=pathlib.Path)
templates = commands.add_parser("templates")
templates.add_argument("--update", action="store_true")
arguments = parser.parse_args()
if arguments.command == "folder":
    check_folder(arguments.folder, arguments.source)
else:
    check_templates(arguments.update)
