"""The stock recipe's site: DATABASE_URL and REDIS_URL choose its column, as they do for Chatsite.

SQLite gets the options of Chatsite, which are kinder than Django's defaults, so that these make no difference.
"""

import os
from typing import Any

import dj_database_url

SECRET_KEY = "only for the benchmark"
ALLOWED_HOSTS = ["127.0.0.1"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["channels", "bench.peers.stock"]
ROOT_URLCONF = "bench.peers.stock.asgi"
DATABASES: dict[str, Any] = {"default": dict(dj_database_url.parse(os.environ["DATABASE_URL"]))}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
    }
else:
    DATABASES["default"]["OPTIONS"] = {"pool": True}
REDIS_URL = os.environ.get("REDIS_URL")
CHANNEL_LAYERS: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [REDIS_URL]}}
    if REDIS_URL
    else {"BACKEND": "channels.layers.InMemoryChannelLayer"}
}
