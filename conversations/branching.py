"""Branches on the pages, as plain forms: what static/js/chat.js does without leaving the page works without it too."""

from __future__ import annotations

from math import ceil
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from conversations.access import owned
from conversations.api.throttles import PROMPTS, wait_s
from conversations.forms import BranchForm
from conversations.models import Refused


@login_required
@require_POST
def regenerate(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Another reply beside the posted one."""
    found, message = owned(request, pk), posted(request)
    if seconds := wait_s(request, PROMPTS):
        messages.error(request, f"That was quick. Try again in {ceil(seconds)} s.")
        return redirect("conversation", pk)
    try:
        found.regenerate(message)
    except Refused as refused:
        messages.error(request, refused.detail)
    return redirect("conversation", pk)


@login_required
@require_POST
def choose(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show the branch of the posted message."""
    message = posted(request)
    try:
        owned(request, pk).choose(message)
    except Refused as refused:
        raise Http404 from refused
    return redirect(f"{request.path.removesuffix('choose/')}#message-{message}")


def posted(request: HttpRequest) -> UUID:
    form = BranchForm(request.POST)
    if not form.is_valid():
        raise Http404
    message: UUID = form.cleaned_data["message"]
    return message
