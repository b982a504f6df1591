"""The admin's streams with whose they are: the owner, the conversation, and the same question asked again."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import F, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.http import urlencode

from conversations.models import Message, Refused
from streaming.models import Stream
from streaming.streamadmin import AgeFilter, ModelFilter, StreamAdmin


class OwnerFilter(admin.SimpleListFilter):
    """One person's streams. Chosen by the name in a row: a list of everybody would be too long."""

    title = "owner"
    parameter_name = "owner"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in filter(None, [self.value()])]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Stream]) -> QuerySet[Stream]:
        owned = {"message__conversation__owner__username": self.value()}
        return queryset.filter(**owned) if self.value() else queryset


class AnswerAdmin(StreamAdmin):
    list_display = ("short_id", "state", "owner", *StreamAdmin.list_display[2:])
    list_filter = ("status", ModelFilter, OwnerFilter, AgeFilter)
    fieldsets = ((None, {"fields": (("owner", "conversation"), *StreamAdmin.facts)}), *StreamAdmin.more)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Stream]:
        whose = {"owner_name": F("message__conversation__owner__username"), "talk": F("message__conversation")}
        answerable = Q(message__conversation__isnull=False, message__conversation__deleted_at=None)
        return super().get_queryset(request).annotate(**whose, answerable=answerable)

    @admin.display(description="owner")
    def owner(self, stream: Stream) -> str:
        name = str(getattr(stream, "owner_name", None) or "")
        address = reverse("admin:streaming_stream_changelist")
        return format_html('<a href="{}?{}">{}</a>', address, urlencode({"owner": name}), name) if name else "–"

    @admin.display(description="conversation")
    def conversation(self, stream: Stream) -> str:
        talk = getattr(stream, "talk", None)
        if talk is None:
            return "–"
        return format_html('<a href="{}">{}</a>', reverse("admin:conversations_conversation_change", args=[talk]), talk)

    def get_urls(self) -> list[URLPattern]:
        retry = path("<uuid:pk>/retry/", self.admin_site.admin_view(self.retry), name="streaming_stream_retry")
        return [retry, *super().get_urls()]

    def retry(self, request: HttpRequest, pk: UUID) -> HttpResponse:
        """Have the prompt answered once more, beside the answer there is, as its owner would."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_stop_permission(request):
            raise PermissionDenied
        reply = Message.objects.select_related("conversation").filter(stream=pk, conversation__deleted_at=None).first()
        if reply is None:
            raise Http404
        try:
            again = reply.conversation.regenerate(reply.pk)
        except Refused as refused:
            self.message_user(request, refused.detail, messages.ERROR)
            return redirect("admin:streaming_stream_change", pk)
        self.message_user(request, "Asked again: this is the new answer.", messages.SUCCESS)
        return redirect(f"{reverse('admin:streaming_stream_change', args=[again.stream_id])}?follow=1")
