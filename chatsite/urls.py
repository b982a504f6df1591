"""The addresses of the whole site: pages, APIs, admin, health."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from chatsite import health
from chatsite.monitoring import metrics

urlpatterns: list[URLPattern | URLResolver] = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("metrics", metrics),
    path("admin/", admin.site.urls),
    path("api/", include("conversations.api.urls")),
    path("ai/", include("conversations.api.aisdk")),
    path("durable/", include("conversations.api.durable")),
    path("v1/", include("conversations.api.openai")),
    path("", include("conversations.urls")),
]

# Django's own pages, and the API's shape of an error for what lies under /api/.
handler400 = "conversations.api.errors.bad_request"
handler403 = "conversations.api.errors.permission_denied"
handler404 = "conversations.api.errors.page_not_found"
handler500 = "conversations.api.errors.server_error"
