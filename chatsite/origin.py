"""Which websocket handshakes are let in: any that carry a bearer token, and of the others those from our own pages.

A browser sends cookies along with any page's handshake, so a cookie counts only beside an allowed Origin. It cannot be
made to send an Authorization header, and programs that do send no Origin.
"""

from typing import Any

from channels.security.websocket import AllowedHostsOriginValidator

from conversations.access import bearer_of


class BearerOrOrigin:
    def __init__(self, application: Any) -> None:
        self._application = application
        self._from_our_pages = AllowedHostsOriginValidator(application)

    def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        bearer = bearer_of(scope["headers"]) is not None
        return (self._application if bearer else self._from_our_pages)(scope, receive, send)
