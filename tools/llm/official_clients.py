"""Holds the same conversations through a vendor's official Python client, for comparison with llm-providers.

    python tools/llm/official_clients.py openai|openai-responses|anthropic|gemini|ollama BASE_URL

Prints a line of JSON for each conversation: its name, and what the client made of the answer (text, tool calls, stop reason, tokens)
or the error. The conversations are those of crates/llm-providers/tests/it/servers/official_clients.rs, to the letter.
Needs the packages openai, anthropic, google-genai and ollama.
"""

import base64
import json
import sys

MODEL = "model-1"
SYSTEM = "Be brief."
SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Where"}},
    "required": ["city"],
    "additionalProperties": False,
}
IMAGE = b"\x89PNG\r\n\x1a\nnot really"
PROMPTS = {
    "text": "conformance of plain text",
    "settings": "conformance of plain text",
    "schema": "conformance of plain text",
    "image": "conformance of plain text",
    "tool": "conformance of one tool call",
    "tool_results": "conformance of plain text",
}


def openai(base):
    from openai import OpenAI

    client = OpenAI(base_url=f"{base}/v1", api_key="no-key", max_retries=0)
    tool = {"type": "function", "function": {"name": "get_weather", "description": "The weather of a city", "parameters": CITY}}

    def ask(name, content=None, before=(), after=(), **settings):
        messages = [*before, {"role": "user", "content": content or PROMPTS[name]}, *after]
        answer = client.chat.completions.create(model=MODEL, messages=messages, **settings)
        choice = answer.choices[0]
        calls = [[call.function.name, json.loads(call.function.arguments)] for call in choice.message.tool_calls or []]
        return choice.message.content or "", calls, choice.finish_reason, answer.usage.completion_tokens

    system = {"role": "system", "content": SYSTEM}
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
    url = "data:image/png;base64," + base64.b64encode(IMAGE).decode()
    return {
        "text": lambda: ask("text", before=[system]),
        "settings": lambda: ask(
            "settings", max_completion_tokens=64, temperature=0.5, top_p=0.9, seed=7, stop=["END"], presence_penalty=0.1,
            frequency_penalty=0.2, logprobs=True, top_logprobs=2,
        ),
        "schema": lambda: ask(
            "schema",
            response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}},
        ),
        "image": lambda: ask(
            "image",
            content=[{"type": "text", "text": PROMPTS["image"]}, {"type": "image_url", "image_url": {"url": url}}],
        ),
        "tool": lambda: ask("tool", tools=[tool], tool_choice="required", parallel_tool_calls=False),
        "tool_results": lambda: ask(
            "tool_results",
            before=[
                {"role": "user", "content": "weather?"},
                {"role": "assistant", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
            ],
            tools=[tool],
        ),
    }


def openai_responses(base):
    from openai import OpenAI

    client = OpenAI(base_url=f"{base}/v1", api_key="no-key", max_retries=0)
    tool = {"type": "function", "name": "get_weather", "description": "The weather of a city", "parameters": CITY, "strict": True}

    def ask(name, content=None, before=(), **settings):
        content = content or [{"type": "input_text", "text": PROMPTS[name]}]
        items = [*before, {"type": "message", "role": "user", "content": content}]
        answer = client.responses.create(model=MODEL, input=items, **settings)
        calls = [[item.name, json.loads(item.arguments)] for item in answer.output if item.type == "function_call"]
        return answer.output_text, calls, answer.status, answer.usage.output_tokens

    url = "data:image/png;base64," + base64.b64encode(IMAGE).decode()
    return {
        "text": lambda: ask("text", instructions=SYSTEM),
        "settings": lambda: ask(
            "settings", max_output_tokens=64, temperature=0.5, top_p=0.9, top_logprobs=2,
            include=["message.output_text.logprobs"],
        ),
        "schema": lambda: ask(
            "schema", text={"format": {"type": "json_schema", "name": "answer", "schema": SCHEMA, "strict": True}}
        ),
        "image": lambda: ask(
            "image",
            content=[{"type": "input_text", "text": PROMPTS["image"]}, {"type": "input_image", "image_url": url}],
        ),
        "tool": lambda: ask("tool", tools=[tool], tool_choice="required", parallel_tool_calls=False),
        "tool_results": lambda: ask(
            "tool_results",
            before=[
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "weather?"}]},
                {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"city": "Paris"}'},
                {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
            ],
            tools=[tool],
        ),
    }


def anthropic(base):
    from anthropic import Anthropic

    client = Anthropic(base_url=base, api_key="no-key", max_retries=0)
    tool = {"name": "get_weather", "description": "The weather of a city", "input_schema": CITY}

    def ask(name, content=None, before=(), max_tokens=256, **settings):
        content = content or [{"type": "text", "text": PROMPTS[name]}]
        messages = [*before, {"role": "user", "content": content}]
        answer = client.messages.create(model=MODEL, max_tokens=max_tokens, messages=messages, **settings)
        text = "".join(block.text for block in answer.content if block.type == "text")
        calls = [[block.name, block.input] for block in answer.content if block.type == "tool_use"]
        return text, calls, answer.stop_reason, answer.usage.output_tokens

    image = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(IMAGE).decode()}
    results = [
        {"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"},
        {"type": "text", "text": PROMPTS["tool_results"]},
    ]
    return {
        "text": lambda: ask("text", system=SYSTEM),
        "settings": lambda: ask(
            "settings", max_tokens=64, stop_sequences=["END"],
            # Version 2 has no words for these; the server has.
            extra_body={"temperature": 0.5, "top_p": 0.9, "top_k": 20},
        ),
        "schema": lambda: ask("schema", output_config={"format": {"type": "json_schema", "schema": SCHEMA}}),
        "image": lambda: ask(
            "image", content=[{"type": "text", "text": PROMPTS["image"]}, {"type": "image", "source": image}]
        ),
        "tool": lambda: ask("tool", tools=[tool], tool_choice={"type": "any", "disable_parallel_tool_use": True}),
        "tool_results": lambda: ask(
            "tool_results",
            before=[
                {"role": "user", "content": [{"type": "text", "text": "weather?"}]},
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Paris"}}],
                },
            ],
            content=results,
            tools=[tool],
        ),
    }


def gemini(base):
    from google import genai
    from google.genai import types

    client = genai.Client(api_key="no-key", http_options={"base_url": base, "api_version": "v1beta"})
    declaration = {"name": "get_weather", "description": "The weather of a city", "parameters_json_schema": CITY}
    tool = types.Tool(function_declarations=[declaration])

    def user(*parts):
        return types.Content(role="user", parts=list(parts))

    def ask(name, parts=None, before=(), **config):
        parts = parts or [types.Part(text=PROMPTS[name])]
        config = types.GenerateContentConfig(
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True), **config
        )
        answer = client.models.generate_content(model=MODEL, contents=[*before, user(*parts)], config=config)
        candidate = answer.candidates[0]
        text = "".join(part.text for part in candidate.content.parts if part.text and not part.thought)
        calls = [[call.name, call.args] for call in answer.function_calls or []]
        return text, calls, candidate.finish_reason.value, answer.usage_metadata.candidates_token_count

    call = types.Part(function_call=types.FunctionCall(name="get_weather", args={"city": "Paris"}))
    result = types.Part(function_response=types.FunctionResponse(name="get_weather", response={"result": "sunny"}))
    calling = types.FunctionCallingConfig(mode="ANY")
    return {
        "text": lambda: ask("text", system_instruction=SYSTEM),
        "settings": lambda: ask(
            "settings", max_output_tokens=64, temperature=0.5, top_p=0.9, top_k=20, seed=7, stop_sequences=["END"],
            presence_penalty=0.1, frequency_penalty=0.2, response_logprobs=True, logprobs=2,
        ),
        "schema": lambda: ask("schema", response_mime_type="application/json", response_json_schema=SCHEMA),
        "image": lambda: ask(
            "image", parts=[types.Part(text=PROMPTS["image"]), types.Part.from_bytes(data=IMAGE, mime_type="image/png")]
        ),
        "tool": lambda: ask("tool", tools=[tool], tool_config=types.ToolConfig(function_calling_config=calling)),
        "tool_results": lambda: ask(
            "tool_results",
            before=[
                user(types.Part(text="weather?")),
                types.Content(role="model", parts=[call]),
                user(result),
            ],
            tools=[tool],
        ),
    }


def ollama(base):
    from ollama import Client

    client = Client(host=base)
    tool = {"type": "function", "function": {"name": "get_weather", "description": "The weather of a city", "parameters": CITY}}

    def ask(name, before=(), images=None, **settings):
        message = {"role": "user", "content": PROMPTS[name]}
        if images:
            message["images"] = images
        answer = client.chat(model=MODEL, messages=[*before, message], **settings)
        calls = [[call.function.name, dict(call.function.arguments)] for call in answer.message.tool_calls or []]
        return answer.message.content or "", calls, answer.done_reason, answer.eval_count

    call = {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    options = {
        "num_predict": 64, "temperature": 0.5, "top_p": 0.9, "top_k": 20, "seed": 7, "stop": ["END"], "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
    }
    return {
        "text": lambda: ask("text", before=[{"role": "system", "content": SYSTEM}]),
        "settings": lambda: ask("settings", options=options, logprobs=True, top_logprobs=2),
        "schema": lambda: ask("schema", format=SCHEMA),
        "image": lambda: ask("image", images=[IMAGE]),
        "tool": lambda: ask("tool", tools=[tool]),
        "tool_results": lambda: ask(
            "tool_results",
            before=[
                {"role": "user", "content": "weather?"},
                {"role": "assistant", "tool_calls": [call]},
                {"role": "tool", "content": "sunny", "tool_name": "get_weather"},
            ],
            tools=[tool],
        ),
    }


def main(vendor, base):
    conversations = {
        "openai": openai,
        "openai-responses": openai_responses,
        "anthropic": anthropic,
        "gemini": gemini,
        "ollama": ollama,
    }[vendor](base)
    for name, hold in conversations.items():
        line = {"name": name}
        try:
            line["text"], line["calls"], line["stop"], line["output_tokens"] = hold()
        except Exception as error:  # what the client makes of the answer is what is asked
            line["error"] = f"{type(error).__name__}: {error}"
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
