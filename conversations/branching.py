"""Branches on the pages, as plain forms: what static/js/chat.js does without leaving the page works without it too."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from conversations.access import owned
from conversations.forms import BranchForm
from conversations.models import Conversation, Refused


@login_required
@require_POST
def regenerate(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Another reply beside the posted one."""
    found, message = chosen(request, pk)
    try:
        found.regenerate(message)
    except Refused as refused:
        messages.error(request, refused.detail)
    return redirect("conversation", pk)


@login_required
@require_POST
def choose(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show the branch of the posted message."""
    found, message = chosen(request, pk)
    found.choose(message)
    return redirect(f"{reverse('conversation', args=[pk])}#message-{message}")


def chosen(request: HttpRequest, pk: UUID) -> tuple[Conversation, UUID]:
    """The conversation and the message in it that was posted, or 404."""
    found, form = owned(request, pk), BranchForm(request.POST)
    if not form.is_valid():
        raise Http404
    return found, get_object_or_404(found.messages, pk=form.cleaned_data["message"]).pk
