"""Makes every call that the site has of OpenAI's API, with whatever openai package is found first; prints what came."""

from __future__ import annotations

import json
import sys
from typing import Any

import openai


def refused(call: Any) -> list[Any]:
    try:
        call()
    except openai.APIStatusError as error:
        return [type(error).__name__, error.code, error.param]
    return []


def responses(client: Any, prompt: str, long: str) -> dict[str, Any]:
    asked = {"model": "test-model", "input": prompt}
    plain = client.responses.create(**asked, instructions="Be brief.", temperature=0.5)
    follow_up = client.responses.create(**asked, previous_response_id=plain.id)
    client.responses.create(**asked, conversation=plain.conversation.id)
    followed = client.responses.create(**asked, background=True)
    events = list(client.responses.retrieve(followed.id, stream=True))
    slow = client.responses.create(model="test-model", input=long, background=True)
    with client.responses.retrieve(slow.id, stream=True) as words:
        next(event for event in words if event.type == "response.output_text.delta")
    cancelled = client.responses.cancel(slow.id).status
    client.responses.delete(followed.id)
    return {
        "plain": plain.output_text,
        "thoughts": plain.output[0].content[0].text,
        "usage": plain.usage.total_tokens,
        "previous": plain.id,
        "follow_up": follow_up.previous_response_id,
        "conversations": len({plain.conversation.id, follow_up.conversation.id}),
        "followed": events[-1].response.output_text,
        "cancelled": cancelled,
        "deleted": refused(lambda: client.responses.retrieve(followed.id))[0],
    }


def completions(client: Any, prompt: str) -> dict[str, Any]:
    asked = {"model": "test-model", "messages": [{"role": "user", "content": prompt}]}
    whole = client.chat.completions.create(**asked, max_tokens=500)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    return {
        "completion": whole.choices[0].message.content,
        "completion_usage": whole.usage.total_tokens,
        "chunks": "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices),
        "chunks_usage": chunks[-1].usage.total_tokens,
    }


def main(url: str, token: str, prompt: str, long: str) -> dict[str, Any]:
    client: Any = openai.OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0)
    stranger: Any = openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0)
    searching: Any = [{"type": "web_search"}]
    return {
        **responses(client, prompt, long),
        **completions(client, prompt),
        "models": [model.id for model in client.models.list()],
        "model": client.models.retrieve("test-model").id,
        "refusals": {
            "tools": refused(lambda: client.responses.create(model="test-model", input="a", tools=searching)),
            "model": refused(lambda: client.responses.create(model="gpt-9", input="a")),
            "key": refused(stranger.models.list),
        },
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])))
