"""The addresses of the JSON API."""

from django.urls import URLPattern, path, re_path
from drf_spectacular.views import SpectacularAPIView

from conversations.api import feeding, keeping, native, schema, tokens
from conversations.api.events import events

urlpatterns: list[URLPattern] = [
    path("visitors/", native.Visitors.as_view()),
    path("me/", native.Me.as_view()),
    path("tokens/", tokens.Tokens.as_view()),
    path("tokens/<int:pk>/", tokens.OneToken.as_view()),
    path("conversations/", native.Conversations.as_view()),
    path("conversations/<uuid:pk>/", native.OneConversation.as_view()),
    path("conversations/<uuid:pk>/messages/", native.Messages.as_view()),
    path("conversations/<uuid:pk>/streams/", feeding.Streams.as_view()),
    path("conversations/<uuid:pk>/share/", keeping.Share.as_view()),
    path("conversations/<uuid:pk>/export/", keeping.Export.as_view()),
    path("messages/<uuid:pk>/regenerate/", native.Regenerate.as_view()),
    path("messages/<uuid:pk>/edit/", native.Edit.as_view()),
    path("messages/<uuid:pk>/choose/", native.Choose.as_view()),
    path("streams/<uuid:pk>/", native.OneStream.as_view()),
    path("streams/<uuid:pk>/chunks/", feeding.Chunks.as_view()),
    path("streams/<uuid:pk>/end/", feeding.End.as_view()),
    path("streams/<uuid:pk>/events/", events),
    path("streams/<uuid:pk>/stop/", native.Stop.as_view()),
    path("schema/", SpectacularAPIView.as_view(), name="api-schema"),
    path("docs/", schema.DocsView.as_view(), name="api-docs"),
    # Must stay the last.
    re_path("", native.NotFound.as_view()),
]
