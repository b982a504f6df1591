"""The site's settings with a channel layer that can be told to lose messages."""

from chatsite.settings import *  # noqa: F403
from chatsite.settings import CHANNEL_LAYERS as LAYERS

CHANNEL_LAYERS = {"default": {**LAYERS["default"], "BACKEND": "tests.chaos.layer.LossyLayer"}}
