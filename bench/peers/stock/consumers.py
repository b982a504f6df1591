"""What tutorials show: a consumer in a group; each delta of the SDK is saved and sent to the group, one by one."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer
from openai import AsyncOpenAI

from bench.peers.stock.models import Delta

client = AsyncOpenAI(base_url=os.environ["SOURCE"], api_key="bench")
answers: set[asyncio.Task[None]] = set()


class ChatConsumer(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        self.room = self.scope["url_route"]["kwargs"]["room"]
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.room, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        # In a task: nothing of the group would reach this consumer while it is here.
        task = asyncio.create_task(self.answer(json.loads(text_data or "")["prompt"]))
        answers.add(task)
        task.add_done_callback(answers.discard)

    async def answer(self, prompt: str) -> None:
        messages: Any = [{"role": "user", "content": prompt}]
        stream = await client.chat.completions.create(model="bench", messages=messages, stream=True)
        async for event in stream:
            if event.choices and (text := event.choices[0].delta.content):
                await Delta.objects.acreate(room=self.room, text=text)
                await self.channel_layer.group_send(self.room, {"type": "chat.delta", "text": text})

    async def chat_delta(self, event: dict[str, Any]) -> None:
        await self.send(text_data=json.dumps({"type": "delta", "text": event["text"]}))
