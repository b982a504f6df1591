"""Websocket routes."""

from django.urls import URLPattern, path

from conversations.consumers import ConversationConsumer

websocket_urlpatterns: list[URLPattern] = [
    path("ws/conversations/<uuid:pk>/", ConversationConsumer.as_asgi()),  # type: ignore[arg-type]
]
