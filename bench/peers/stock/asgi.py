"""The stock recipe's ASGI application, and its empty URL configuration."""

import os
from typing import Any

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import re_path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bench.peers.stock.settings")
pages = get_asgi_application()

from bench.peers.stock.consumers import ChatConsumer  # noqa: E402

urlpatterns: list[Any] = []
consumer: Any = ChatConsumer.as_asgi()
rooms: list[Any] = [re_path(r"^(?P<room>\w+)$", consumer)]
application = ProtocolTypeRouter({"http": pages, "websocket": URLRouter(rooms)})
