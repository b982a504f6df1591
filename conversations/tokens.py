"""A person's bearer tokens on a page: make one, see it once, see when each was last used, revoke it."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from conversations.access import person
from conversations.forms import TokenForm
from conversations.models import Refused


@login_required
@never_cache
@require_http_methods(["GET", "POST"])
def tokens(request: HttpRequest) -> HttpResponse:
    """The list; POST makes one, whose secret is on the page that answers and nowhere else."""
    mine, secret, status = person(request).tokens, "", 200
    form = TokenForm(request.POST or None)
    if request.method == "POST":
        try:
            secret = mine.issue(person(request), form.cleaned_data["name"]) if form.is_valid() else ""
        except Refused as refused:
            form.add_error(None, refused.detail)
        form, status = (TokenForm(), 201) if secret else (form, 400)
    context = {"form": form, "tokens": mine.order_by("-created_at", "-pk"), "secret": secret}
    return render(request, "registration/tokens.html", context, status=status)


@login_required
@require_POST
def revoke(request: HttpRequest, pk: int) -> HttpResponse:
    """The token is refused from now on, and what is open with it ends (ACCESS_CHECK_S)."""
    if person(request).tokens.filter(pk=pk).delete()[0]:
        messages.success(request, "Revoked.")
    return redirect("tokens")
