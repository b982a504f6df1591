"""Follows an answer with whatever openai package is found first, losing the connection behind every single event.

Prints what came that way, what comes of the finished answer at once, and behind which numbers the rest was not exact.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import openai

TERMINAL = {"response.completed", "response.incomplete", "response.failed"}


def event_by_event(client: Any, prompt: str) -> list[dict[str, Any]]:
    """One connection for each event: create, then again and again behind the last one that came."""
    came: list[dict[str, Any]] = []
    connection = client.responses.create(model="test-model", input=prompt, stream=True)
    while True:
        came.append(next(iter(connection)).to_dict())
        connection.close()
        if came[-1]["type"] in TERMINAL:
            return came
        after = came[-1]["sequence_number"]
        response = came[0]["response"]["id"]
        connection = client.responses.retrieve(response, stream=True, starting_after=after)


def replay(client: Any, response: str, **position: int) -> list[dict[str, Any]]:
    return [event.to_dict() for event in client.responses.retrieve(response, stream=True, **position)]


def main(url: str, token: str, prompt: str) -> dict[str, Any]:
    client: Any = openai.OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0)
    cut = event_by_event(client, prompt)
    response = cut[0]["response"]["id"]
    whole = replay(client, response)
    wrong = [
        event["sequence_number"]
        for at, event in enumerate(whole, 1)
        if replay(client, response, starting_after=event["sequence_number"]) != whole[at:]
    ]
    helper = client.responses.stream(response_id=response, starting_after=whole[3]["sequence_number"])
    with helper as events:
        helped = [event.type for event in events]
        final = events.get_final_response().output_text
    text = client.responses.retrieve(response).output_text
    told = {"cut": cut, "whole": whole, "wrong": wrong, "helped": helped, "final": final, "text": text}
    return {"version": openai.__version__, **told}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])))
