"""What the owner does to a conversation as a whole: name it, set it up, take it away as a file, clear it, delete it."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import FileResponse, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from conversations import export
from conversations.access import owned, person
from conversations.forms import SetupForm, TitleForm
from conversations.models import Conversation


@login_required
@require_POST
def rename(request: HttpRequest, pk: UUID) -> HttpResponse:
    form = TitleForm(request.POST, instance=owned(request, pk))
    if form.is_valid():
        form.save()
    else:
        messages.error(request, "A title has at most 200 characters.")
    return redirect("conversation", pk)


@login_required
@require_POST
def setup(request: HttpRequest, pk: UUID) -> HttpResponse:
    form = SetupForm(request.POST, instance=owned(request, pk))
    if form.is_valid():
        form.save()
        messages.success(request, "Saved. It holds from the next answer on.")
    else:
        messages.error(request, " ".join(str(problem) for problems in form.errors.values() for problem in problems))
    return redirect("conversation", pk)


@login_required
@require_POST
def clear(request: HttpRequest, pk: UUID) -> HttpResponse:
    owned(request, pk).clear()
    messages.success(request, "Cleared.")
    return redirect("conversation", pk)


@login_required
@require_POST
def delete(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Gone for everybody at once; the next page offers the undo."""
    owned(request, pk).discard()
    Conversation.objects.overdue().remove()
    return redirect("home")


@login_required
@require_POST
def restore(request: HttpRequest, pk: UUID) -> HttpResponse:
    if Conversation.objects.filter(owner=request.user.pk, pk=pk).undoable().update(deleted_at=None):
        return redirect("conversation", pk)
    messages.error(request, "It is too late for that: the conversation is gone.")
    return redirect("home")


@login_required
@require_GET
def download(request: HttpRequest, pk: UUID, kind: str) -> HttpResponse:
    return export.download(owned(request, pk), kind)


@login_required
@require_GET
def account(request: HttpRequest) -> FileResponse:
    """Everything that is stored here of whoever asks."""
    name = f"chatsite-{timezone.now():%Y-%m-%d}.zip"
    answer = FileResponse(export.archive(person(request)), as_attachment=True, filename=name)
    answer["Cache-Control"] = "private, no-store"
    return answer
