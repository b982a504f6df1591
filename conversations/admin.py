"""People and what they wrote, for those who run the site: to be looked at, and deleted with all that belongs to it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db.models import QuerySet
from django.db.models.functions import Concat, Left
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from conversations.budgets import Budget
from conversations.models import Conversation, Message, Token, User
from conversations.streamadmin import AnswerAdmin
from streaming.admin import BoundedAdmin, BoundedPaginator, ReadOnlyAdmin, is_list, pre
from streaming.models import Stream

Deleted = tuple[list[str], dict[str, int], set[str], list[str]]
PREVIEW_CHARS = 80


def listed(name: str, text: str, **filters: Any) -> str:
    """A link to the admin's list `name`, filtered."""
    return format_html('<a href="{}?{}">{}</a>', reverse(f"admin:{name}_changelist"), urlencode(filters), text)


def losses(conversations: QuerySet[Conversation]) -> dict[str, int]:
    """What goes with these conversations, by number.

    Django's own way to find out names every message, and recurses once per turn of a long conversation.
    """
    return {
        "conversations": conversations.count(),
        "messages": Message.objects.filter(conversation__in=conversations).count(),
        "streams": conversations.streams().count(),  # type: ignore[attr-defined]
    }


@admin.register(Conversation)
class ConversationAdmin(BoundedAdmin):
    list_display = ("__str__", "owner", "model", "created_at", "updated_at")
    list_select_related = ("owner",)
    list_filter = ("updated_at",)
    linked = ("owner__id__exact",)
    search_fields = ("=id", "title", "=owner__username")
    search_help_text = "An id, words of a title, or the whole name of a user."
    ordering = ("-updated_at",)
    fields = ("id", "owner", "title", "model", "system_prompt", "created_at", "updated_at", "messages", "streams")
    readonly_fields = ("id", "owner", "created_at", "updated_at", "messages", "streams")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    @admin.display(description="messages")
    def messages(self, conversation: Conversation) -> str:
        return listed("conversations_message", "The messages", conversation__id__exact=conversation.pk)

    @admin.display(description="streams")
    def streams(self, conversation: Conversation) -> str:
        return listed("streaming_stream", "The streams of the answers", topic=conversation.topic)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Deleted:
        chosen = Conversation.objects.filter(pk__in=[conversation.pk for conversation in objs])
        needed = set() if self.has_delete_permission(request) else {"conversation"}
        return [str(conversation) for conversation in chosen], losses(chosen), needed, []

    def delete_model(self, request: HttpRequest, obj: Conversation) -> None:
        obj.remove()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Conversation]) -> None:
        Conversation.objects.filter(pk__in=list(queryset.values_list("pk", flat=True))).remove()


@admin.register(Message)
class MessageAdmin(ReadOnlyAdmin):
    list_display = ("id", "role", "preview", "status", "created_at")
    list_filter = ("role", "created_at")
    linked = ("conversation__id__exact",)
    search_fields = ("=id", "text")
    search_help_text = "An id, or words of a prompt. The words of answers are searched among the streams."
    ordering = ("-created_at", "-id")
    fields = ("id", "of_conversation", "role", "created_at", "key", "whole", "of_stream")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        messages: QuerySet[Message] = super().get_queryset(request).select_related("stream", "conversation")
        texts = ("text", "stream__text", "stream__reasoning") if is_list(request) else ()
        messages = messages.defer("stream__request", *texts)
        return messages.annotate(begin=Left(Concat("text", "stream__text"), PREVIEW_CHARS))

    @admin.display(description="text")
    def preview(self, message: Message) -> str:
        return str(getattr(message, "begin", ""))

    @admin.display
    def status(self, message: Message) -> str:
        return message.stream.status if message.stream else ""

    @admin.display(description="text")
    def whole(self, message: Message) -> str:
        return pre(message.content)

    @admin.display(description="conversation")
    def of_conversation(self, message: Message) -> str:
        address = reverse("admin:conversations_conversation_change", args=[message.conversation_id])
        return format_html('<a href="{}">{}</a>', address, message.conversation)

    @admin.display(description="stream")
    def of_stream(self, message: Message) -> str:
        if message.stream_id is None:
            return ""
        address = reverse("admin:streaming_stream_change", args=[message.stream_id])
        return format_html('<a href="{}">{}</a>', address, message.stream_id)


@admin.register(Token)
class TokenAdmin(BoundedAdmin):
    """Tokens can be revoked here. Their secrets are stored nowhere, and the digests are nobody's business."""

    list_display = ("__str__", "user", "created_at", "last_used_at")
    list_select_related = ("user",)
    list_filter = ("created_at", "last_used_at")
    search_fields = ("name", "user__username")
    ordering = ("-created_at",)
    fields = readonly_fields = ("user", "name", "created_at", "last_used_at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Token | None = None) -> bool:
        return False


class BudgetInline(admin.StackedInline[Budget, User]):
    """A person's own limits; what they used is nobody's to change."""

    model = Budget
    fields = ("prompts_per_min", "streams", "day_chars")
    verbose_name_plural = "Own limits"


@admin.register(User)
class UserAdmin(DjangoUserAdmin[User]):
    paginator = BoundedPaginator
    show_full_result_count = False
    list_display = ("username", "is_visitor", "email", "is_active", "is_staff", "date_joined")
    list_filter = ("is_visitor", "is_active", "is_staff", "is_superuser", "date_joined")
    fieldsets = (*DjangoUserAdmin.fieldsets, ("Chatsite", {"fields": ("is_visitor", "conversations")}))  # type: ignore[misc]
    readonly_fields = ("is_visitor", "conversations")
    inlines = (BudgetInline,)

    @admin.display(description="conversations")
    def conversations(self, user: User) -> str:
        return listed("conversations_conversation", "The conversations", owner__id__exact=user.pk)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Deleted:
        chosen = User.objects.filter(pk__in=[user.pk for user in objs])
        counts = {"users": chosen.count(), "tokens": Token.objects.filter(user__in=chosen).count()}
        needed = set() if self.has_delete_permission(request) else {"user"}
        return (
            [str(user) for user in chosen],
            counts | losses(Conversation.objects.filter(owner__in=chosen)),
            needed,
            [],
        )

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        self.delete_queryset(request, User.objects.filter(pk=obj.pk))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        chosen = list(queryset.values_list("pk", flat=True))
        Conversation.objects.filter(owner__in=chosen).remove()
        User.objects.filter(pk__in=chosen).delete()


admin.site.register(Stream, AnswerAdmin)
