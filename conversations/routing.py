"""Websocket routes."""

from typing import Any

from django.urls import path

from conversations.consumers import ConversationConsumer
from conversations.spectators import SharedConsumer

# URLRouter's types want a class that exists only in them, and those of path() know views only.
websocket_urlpatterns: list[Any] = [
    path("ws/conversations/<uuid:pk>/", ConversationConsumer.as_asgi()),  # type: ignore[arg-type]
    path("ws/share/<slug:secret>/", SharedConsumer.as_asgi()),  # type: ignore[arg-type]
]
