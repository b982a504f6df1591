"""The pages: load what the person may see or answer 404, validate, make one model call, respond."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import ceil
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth import views as auth_views
from django.contrib.auth.decorators import login_required
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse, reverse_lazy
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods, require_POST

from conversations.access import owned, person
from conversations.api.throttles import LOGINS, VISITORS, wait_s
from conversations.forms import BranchForm, PasswordForm, PromptForm, SignupForm, focus_on_fault
from conversations.lockout import BACKEND
from conversations.models import Conversation, Message, Refused, User
from conversations.sharing import share_url
from conversations.shelf import page
from streaming import engine
from streaming.models import LIVE, Stream


@require_http_methods(["GET", "POST"])
def home(request: HttpRequest) -> HttpResponse:
    """The landing page for strangers, the first prompt of a new conversation for users."""
    if not request.user.is_authenticated:
        return render(request, "conversations/landing.html")
    form = PromptForm(request.POST or None)
    if request.method == "POST" and (reply := asked(request, form, partial(begin, request, form))):
        return redirect("conversation", reply.conversation_id)
    demo = not (settings.OPENAI_API_KEY or settings.OPENAI_BASE_URL)
    return page(request, "conversations/new.html", status=form.status, form=form, demo=demo)


@login_required
@require_http_methods(["GET", "POST"])
def conversation(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Everything said so far; POST asks, for those without JavaScript."""
    found = owned(request, pk)
    form = PromptForm(request.POST or None)
    if request.method == "POST" and asked(request, form, partial(ask, found, form)):
        return redirect("conversation", pk)
    sought = BranchForm(request.GET)
    newest = None
    if sought.is_valid() and found.messages.filter(pk=sought.cleaned_data["message"]).exists():
        # A search leads into whatever branch says it; which one is chosen stays as it is.
        found.leaf_id = found.tree().leaf_under(sought.cleaned_data["message"])
        newest = Stream.objects.filter(topic=found.topic).order_by("pk").values_list("pk", flat=True).last()
    turns = [(message, message.describe()) for message in found.turns()]
    live = any(said["status"] in LIVE for _, said in turns)
    context = {"conversation": found, "turns": turns, "live": live, "form": form, "mine": True, "newest": newest}
    context |= {"share_url": share_url(request, found)}
    return page(request, "conversations/conversation.html", status=form.status, **context)


@login_required
@require_POST
def stop(request: HttpRequest, pk: UUID) -> HttpResponse:
    engine.stop(Stream.objects.filter(topic=owned(request, pk).topic))
    return redirect("conversation", pk)


@require_POST
def visitor(request: HttpRequest) -> HttpResponse:
    """An account without a form: whoever holds this session is it."""
    if request.user.is_authenticated:
        return redirect("home")
    if seconds := wait_s(request, VISITORS):
        problem = f"Too many new visitors from your network. Try again in {ceil(seconds)} s, or sign up."
        return render(request, "conversations/landing.html", {"problem": problem}, status=429)
    login(request, User.new_visitor(), BACKEND)
    return redirect("home")


@require_http_methods(["GET", "POST"])
def signup(request: HttpRequest) -> HttpResponse:
    """A real account; a visitor who signs up stays the same user and keeps every conversation."""
    was_visitor = request.user.is_authenticated and person(request).is_visitor
    if request.user.is_authenticated and not was_visitor:
        return onward(request)
    form = SignupForm(request.POST or None, instance=person(request) if request.user.is_authenticated else None)
    status = 200
    if request.method == "POST":
        if seconds := wait_s(request, LOGINS):
            form.add_error(None, f"Too many attempts. Try again in {ceil(seconds)} s.")
            status = 429
        elif form.is_valid():
            login(request, form.save(), BACKEND)
            if was_visitor:
                messages.success(request, "Your chats are kept.")
            return onward(request)
        else:
            focus_on_fault(form)
            status = 400
    return render(request, "registration/signup.html", {"form": form, "next": wanted(request)}, status=status)


class LoginView(auth_views.LoginView):
    """Django's, with a limit on tries; a visitor who logs in takes the conversations along."""

    redirect_authenticated_user = False

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if seconds := wait_s(request, LOGINS):
            form = AuthenticationForm(request, initial={"username": request.POST.get("username", "")})
            problem = f"Too many attempts. Try again in {ceil(seconds)} s."
            return self.render_to_response(self.get_context_data(form=form, problem=problem), status=429)
        return super().post(request, *args, **kwargs)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        visitor = User.objects.filter(pk=self.request.user.pk or 0, is_visitor=True).first()
        response = super().form_valid(form)
        if visitor:
            visitor.conversations.update(owner=form.get_user())
        return response

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        focus_on_fault(form)
        return super().form_invalid(form)


class PasswordView(auth_views.PasswordChangeView):
    form_class = PasswordForm
    template_name = "registration/password.html"
    success_url = reverse_lazy("home")

    def form_valid(self, form: PasswordChangeForm) -> HttpResponse:
        messages.success(self.request, "Your password is changed.")
        return super().form_valid(form)

    def form_invalid(self, form: PasswordChangeForm) -> HttpResponse:
        focus_on_fault(form)
        return super().form_invalid(form)


def wanted(request: HttpRequest) -> str:
    """The page of this site that `next` names, or nothing."""
    url = str(request.POST.get("next", request.GET.get("next", "")))
    safe = url_has_allowed_host_and_scheme(url, {request.get_host()}, require_https=request.is_secure())
    return url if safe else ""


def onward(request: HttpRequest) -> HttpResponseRedirect:
    return HttpResponseRedirect(wanted(request) or reverse("home"))


def ask(found: Conversation, form: PromptForm, text: str, key: UUID | None) -> Message:
    return found.ask(text, key, form.cleaned_data["parent"])


def begin(request: HttpRequest, form: PromptForm, text: str, key: UUID | None) -> Message:
    return Conversation.begin(person(request), text, key, form.cleaned_data["model"])


def asked(request: HttpRequest, form: PromptForm, ask: Callable[[str, UUID | None], Message]) -> Message | None:
    """The reply to the posted prompt, or None with the reason among the form's problems."""
    if not form.is_valid():
        return None
    try:
        return ask(form.cleaned_data["text"], form.cleaned_data["key"])
    except Refused as refused:
        form.refuse(409 if refused.wait_s is None else 429, refused.detail)
        return None
