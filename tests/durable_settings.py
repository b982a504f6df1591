"""The site with streams that anybody may write, for the conformance suite of Durable Streams. Never part of a site."""

from chatsite.settings import *  # noqa: F403

ROOT_URLCONF = "tests.durable_mount"
