"""The ASGI application: Django's pages and API, the websocket, and the engine's life with its server."""

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import get_resolver

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")
pages = get_asgi_application()

from chatsite.backpressure import Backpressure  # noqa: E402
from chatsite.direct import DirectWrites  # noqa: E402
from chatsite.logs import RequestIds  # noqa: E402
from chatsite.origin import BearerOrOrigin  # noqa: E402
from chatsite.threads import Threads  # noqa: E402
from conversations.routing import websocket_urlpatterns  # noqa: E402
from streaming.lifespan import follow_daphne, lifespan  # noqa: E402

_ = get_resolver().url_patterns  # Loads all that answers requests, which the first of them would wait for.
follow_daphne()
application = Backpressure(
    DirectWrites(
        RequestIds(
            Threads(
                ProtocolTypeRouter(
                    {
                        "http": pages,
                        "websocket": BearerOrOrigin(URLRouter(websocket_urlpatterns)),
                        "lifespan": lifespan,
                    }
                )
            )
        )
    )
)
