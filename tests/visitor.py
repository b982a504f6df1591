"""A site's guest over HTTP, for whoever drives a real site: the tests' client and the benchmark's load."""

from __future__ import annotations

from uuid import uuid4

import httpx


class Visitor:
    """A user of a site, with a token."""

    def __init__(self, url: str, timeout_s: float = 60) -> None:
        created = httpx.post(f"{url}/api/visitors/", timeout=timeout_s)
        assert created.status_code == 201, created.text
        self.token: str = created.json()["token"]
        self.headers = {"Authorization": f"Bearer {self.token}"}
        self.http = httpx.Client(base_url=f"{url}/api", headers=self.headers, timeout=timeout_s)

    def new_conversation(self) -> str:
        return str(self.http.post("/conversations/", json={}).raise_for_status().json()["id"])

    def ask(self, conversation: str, text: str) -> str:
        """Ask over HTTP; returns the stream's id."""
        headers = {"Idempotency-Key": str(uuid4())}
        asked = self.http.post(f"/conversations/{conversation}/messages/", json={"text": text}, headers=headers)
        return str(asked.raise_for_status().json()["stream"])

    def ask_anew(self, text: str) -> tuple[str, str]:
        """Ask in a new conversation; returns it and the stream."""
        conversation = self.new_conversation()
        return conversation, self.ask(conversation, text)
