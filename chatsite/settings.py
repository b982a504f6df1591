"""Every choice of a deployment, parsed from the environment here and nowhere else.

One variable per choice; a bad value stops the start and names its variable. docs/settings.md lists them all and a
test compares it with this file. Without any variable this is the embedded column of the design: SQLite, one process,
the built-in demo model.
"""

import os
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import dj_database_url
import django_stubs_ext
from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key
from environs import Env, EnvError, validate

BASE_DIR = Path(__file__).resolve().parent.parent

# Lets the generic classes of Django be subscripted at run time, as their types are in the sources.
django_stubs_ext.monkeypatch()


def local_secret_key(path: Path) -> str:
    """The development key of this checkout: made once, kept beside the database so that log-ins survive a restart."""
    try:
        return path.read_text()
    except FileNotFoundError:
        own = path.with_name(f"{path.name}.{os.getpid()}")
        own.touch(mode=0o600)
        own.write_text(get_random_secret_key())
        # Of processes that start together the first one's key, whole, becomes the key of all.
        with suppress(FileExistsError):
            path.hardlink_to(own)
        own.unlink()
        return path.read_text()


def database(url: str) -> dict[str, Any]:
    """Django's DATABASES entry for `url`: SQLite made safe for several writers, PostgreSQL with a pool."""
    try:
        config: dict[str, Any] = dict(dj_database_url.parse(url))
    except Exception as error:
        raise ImproperlyConfigured(f"DATABASE_URL is not a database URL: {error}") from error
    if config["ENGINE"] == "django.db.backends.sqlite3":
        config["OPTIONS"] = {
            # Read-then-write in a deferred transaction fails at once with "database is locked" under a second writer.
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            # Checkpoints stall the commit they fall into; the engine makes them beside it, this is the safety net.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=20000",
        }
        config["TEST"] = {"NAME": f"{config['NAME']}.test"}
    elif config["ENGINE"] == "django.db.backends.postgresql":
        # A connection that died, or a server that hangs, is found out within seconds instead of many minutes.
        watchful = {
            "connect_timeout": 3,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
            # Nor does a process that was paused in a transaction hold up who takes its streams over.
            "options": "-c idle_in_transaction_session_timeout=5s -c lock_timeout=5s",
        }
        # The pool's own choice is to wait longer and longer for a server that is away, up to as long as it was.
        pool = {"min_size": 1, "max_size": 16, "timeout": 5, "reconnect_timeout": 2}
        config["OPTIONS"] = watchful | config.get("OPTIONS", {}) | {"pool": pool}
        config["CONN_HEALTH_CHECKS"] = True
    else:
        raise ImproperlyConfigured("DATABASE_URL names an engine that is not supported: use sqlite or postgresql")
    return config


env = Env()
env.read_env(env.str("ENV_FILE", f"{BASE_DIR / '.env'}"), recurse=False)

try:
    DEBUG = env.bool("DEBUG", False)
    ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
    CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", [])
    CORS_ALLOWED_ORIGINS: list[str] = env.list("CORS_ORIGINS", [])
    SECRET_KEY = env.str("SECRET_KEY", "") or local_secret_key(BASE_DIR / ".secret-key")
    DATABASES = {"default": database(env.str("DATABASE_URL", f"sqlite:///{BASE_DIR / 'db.sqlite3'}"))}
    REDIS_URL = env.str("REDIS_URL", "")
    ON_POSTGRESQL = DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql"
    STREAM_ENGINE = env.str("STREAM_ENGINE", "", validate=validate.OneOf(["", "process", "worker"])) or (
        "worker" if ON_POSTGRESQL else "process"
    )
    SECURE_COOKIES = env.bool("SECURE_COOKIES", False)
    HTTPS_REDIRECT = env.bool("HTTPS_REDIRECT", False)
    HSTS_S = env.int("HSTS_S", 0)
    LOG_LEVEL = env.str("LOG_LEVEL", "INFO", validate=validate.OneOf(["DEBUG", "INFO", "WARNING", "ERROR"]))
    LOG_FORMAT = env.str("LOG_FORMAT", "line", validate=validate.OneOf(["line", "json"]))
    METRICS_TOKEN = env.str("METRICS_TOKEN", "")
    METRICS_PORT = env.int("METRICS_PORT", 0, validate=validate.Range(0, 65535))
    METRICS_HOST = env.str("METRICS_HOST", "127.0.0.1")

    OPENAI_API_KEY = env.str("OPENAI_API_KEY", "")
    OPENAI_BASE_URL = env.str("OPENAI_BASE_URL", "")
    # Never empty. A key alone, as many have in their shell, is enough to be answered by OpenAI.
    LLM_MODELS: list[str] = env.list("LLM_MODELS", []) or (
        ["gpt-5-mini"] if OPENAI_API_KEY or OPENAI_BASE_URL else ["demo"]
    )
    LLM_SYSTEM_PROMPT = env.str("LLM_SYSTEM_PROMPT", "")
    LLM_CONNECT_S = env.float("LLM_CONNECT_S", 10)
    DEMO_DELTAS_PER_S = env.float("DEMO_DELTAS_PER_S", 30)

    STREAM_LEASE_S = env.float("STREAM_LEASE_S", 6)
    STREAM_SWEEP_S = env.float("STREAM_SWEEP_S", 0.5)
    STREAM_SILENCE_S = env.float("STREAM_SILENCE_S", 60)
    STREAM_ATTEMPTS = env.int("STREAM_ATTEMPTS", 3)
    STREAM_BACKOFF_S = env.float("STREAM_BACKOFF_S", 1)
    STREAM_BACKOFF_MAX_S = env.float("STREAM_BACKOFF_MAX_S", 30)
    STREAM_CONCURRENCY = env.int("STREAM_CONCURRENCY", 200)
    FEED_LEASE_S = env.float("FEED_LEASE_S", 60)
    STREAM_PENDING_BYTES = env.int("STREAM_PENDING_BYTES", 1_000_000)
    STREAM_PROGRESS_S = env.float("STREAM_PROGRESS_S", 1)
    JOURNAL_SHARE = env.float("JOURNAL_SHARE", 0.9)
    JOURNAL_WINDOW_S = env.float("JOURNAL_WINDOW_S", 0.1)
    HUB_TICK_S = env.float("HUB_TICK_S", 1)
    HUB_RECENT_BYTES = env.int("HUB_RECENT_BYTES", 128_000)
    READER_PAGE_BYTES = env.int("READER_PAGE_BYTES", 256_000)
    READER_UNACKED_BYTES = env.int("READER_UNACKED_BYTES", 1_000_000)
    ACCESS_CHECK_S = env.float("ACCESS_CHECK_S", 5)
    SHELF_CHECK_S = env.float("SHELF_CHECK_S", 10)
    SSE_HEARTBEAT_S = env.float("SSE_HEARTBEAT_S", 15)

    UNDO_S = env.float("UNDO_S", 60)
    LOG_DAYS = env.float("LOG_DAYS", 7)
    VISITOR_DAYS = env.float("VISITOR_DAYS", 90)
    CONVERSATION_DAYS = env.float("CONVERSATION_DAYS", 0)
    PROMPT_MAX_CHARS = env.int("PROMPT_MAX_CHARS", 100_000)
    HISTORY_MAX_CHARS = env.int("HISTORY_MAX_CHARS", 400_000)
    BODY_MAX_BYTES = env.int("BODY_MAX_BYTES", 1_000_000)
    THROTTLE_VISITORS = env.str("THROTTLE_VISITORS", "30/hour")
    THROTTLE_PROMPTS = env.str("THROTTLE_PROMPTS", "60/min")
    THROTTLE_SITE_PROMPTS = env.str("THROTTLE_SITE_PROMPTS", "")
    THROTTLE_LOGINS = env.str("THROTTLE_LOGINS", "30/min")
    LOGIN_ATTEMPTS = env.int("LOGIN_ATTEMPTS", 10)
    LOGIN_LOCK_S = env.int("LOGIN_LOCK_S", 900)
    USER_STREAMS = env.int("USER_STREAMS", 20)
    USER_DAY_CHARS = env.int("USER_DAY_CHARS", 0)
    SITE_STREAMS = env.int("SITE_STREAMS", 0)
    SITE_DAY_CHARS = env.int("SITE_DAY_CHARS", 0)
except EnvError as error:
    raise ImproperlyConfigured(str(error)) from error

INSTALLED_APPS = [
    # Before what else has a `runserver`.
    "chatsite",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_htmx",
    "corsheaders",
    "streaming",
    "conversations",
    "axes",
    # Its tables, and the functions in them, exist on PostgreSQL only.
    *(["procrastinate.contrib.django"] if ON_POSTGRESQL else []),
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "servestatic.middleware.ServeStaticMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "axes.middleware.AxesMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "builtins": ["conversations.templatetags.icons"],
        },
    },
]
ROOT_URLCONF = "chatsite.urls"
ASGI_APPLICATION = "chatsite.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CHANNEL_LAYERS: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "streaming.redis_layer.RedisChannelLayer",
        "CONFIG": {"hosts": REDIS_URL.split(",")},
    }
    if REDIS_URL
    else {"BACKEND": "streaming.layers.LocalChannelLayer"},
}
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL.split(",")[0],
        # What is counted there must not hold anybody up when it hangs.
        "OPTIONS": {"socket_timeout": 0.5, "socket_connect_timeout": 0.5},
    }
    if REDIS_URL
    else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
}

AUTH_USER_MODEL = "conversations.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "home"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AXES_FAILURE_LIMIT = LOGIN_ATTEMPTS
AXES_COOLOFF_TIME = timedelta(seconds=LOGIN_LOCK_S)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_CLIENT_IP_CALLABLE = "conversations.lockout.address"
AXES_LOCKOUT_CALLABLE = "conversations.lockout.refuse"
AXES_RESET_ON_SUCCESS = True
# Whoever goes on trying does not make the owner wait longer.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_DISABLE_ACCESS_LOG = True
AXES_SENSITIVE_PARAMETERS = ["username", "ip_address", "csrfmiddlewaretoken"]

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_COOKIES
SECURE_SSL_REDIRECT = HTTPS_REDIRECT
# Who asks after a process's health is inside and speaks plain HTTP.
SECURE_REDIRECT_EXEMPT = ["^healthz$", "^readyz$", "^metrics$"]
SECURE_HSTS_SECONDS = HSTS_S
# What a domain's other hosts do, and what browsers ship with, is for its owner to decide and not for one site under it.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]
# Files are served straight from static/ and the apps, so a checkout needs no collectstatic before its first start.
SERVESTATIC_USE_FINDERS = True
SERVESTATIC_AUTOREFRESH = DEBUG

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "base-uri": ["'none'"],
        "object-src": ["'none'"],
        "frame-ancestors": ["'none'"],
        "form-action": ["'self'"],
    }
}

# Pages of CORS_ORIGINS may use the APIs with a bearer token; cookies never count for them.
CORS_URLS_REGEX = r"^/(api|v1|ai|durable)/"
CORS_ALLOW_HEADERS = ("accept", "authorization", "content-type", "idempotency-key", "if-none-match", "last-event-id")
CORS_EXPOSE_HEADERS = (
    "etag",
    "idempotent-replayed",
    "location",
    "retry-after",
    "stream-closed",
    "stream-cursor",
    "stream-next-offset",
    "stream-up-to-date",
)

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        # The first one's challenge makes a refusal of strangers 401 rather than 403.
        "conversations.api.authentication.BearerAuthentication",
        "conversations.api.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_PARSER_CLASSES": ["conversations.api.parsers.JSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_METADATA_CLASS": None,
    "EXCEPTION_HANDLER": "conversations.api.errors.respond",
    "URL_FORMAT_OVERRIDE": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Chatsite",
    "DESCRIPTION": "LLM chat whose answers survive anything. Errors have one shape: `code`, `detail`, `fields`.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SCHEMA_PATH_PREFIX": "/api",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "conversations.api.schema.add_events",
    ],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

DATA_UPLOAD_MAX_MEMORY_SIZE = BODY_MAX_BYTES
DAPHNE_WEBSOCKET_MAX_MESSAGE_SIZE = DAPHNE_WEBSOCKET_MAX_FRAME_SIZE = BODY_MAX_BYTES

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"()": "chatsite.logs.LineFormatter", "format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
        "json": {"()": "chatsite.logs.JSONFormatter"},
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    # At INFO they log a line for each request to the model, and several for each job.
    "loggers": {name: {"level": "WARNING"} for name in ("axes", "httpx", "httpx2", "procrastinate")},
}
