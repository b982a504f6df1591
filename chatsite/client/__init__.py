"""A client of the site's JSON API, for blocking and for async programs. It needs no Django, and reconnects by itself.

    with Client("https://chat.example.org", token) as site:
        answer = site.ask(site.begin(), "Why is the sky blue?")
        for frame in site.follow(answer):
            print(answer.text)

A lost connection, a server that restarts, a full one: all are waited out, for up to `patience_s` seconds without any
sign of life, and asking again never asks twice. What the site refuses is raised as Refused.
"""

from chatsite.client.asynchronous import AsyncClient
from chatsite.client.blocking import Client
from chatsite.client.calls import Answer, Frame, Refused, Unreachable

__all__ = ["Answer", "AsyncClient", "Client", "Frame", "Refused", "Unreachable"]
