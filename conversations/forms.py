"""What the pages accept: prompts, titles and the sign-up form. No text is ever lost to an error."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.forms import PasswordChangeForm, UserCreationForm

from conversations.models import Conversation, User

GOOD_PASSWORD = "At least 8 characters, and not a common word."


def offered() -> list[tuple[str, str]]:
    """The models one can choose from, the site's default first."""
    return [(name, name) for name in settings.LLM_MODELS]


class PromptForm(forms.Form):
    """A prompt with the idempotency key its form was rendered with; `status` is what the page answers with."""

    text = forms.CharField(strip=False, required=False)
    key = forms.UUIDField(required=False)
    model = forms.ChoiceField(choices=offered, required=False)
    parent = forms.UUIDField(required=False)

    status = 200

    def clean_text(self) -> str:
        # A browser posts CRLF, a script LF: the same prompt must be the same text under the same key.
        text: str = self.cleaned_data["text"].replace("\r\n", "\n")
        limit: int = settings.PROMPT_MAX_CHARS
        if not text.strip():
            raise forms.ValidationError("Write something first.")
        if len(text) > limit:
            raise forms.ValidationError(
                f"That is {len(text):,} characters; at most {limit:,} fit. Shorten it a little."
            )
        return text

    def is_valid(self) -> bool:
        valid = super().is_valid()
        if self.is_bound and not valid:
            self.status = 400
        return valid

    def refuse(self, status: int, detail: str) -> None:
        self.status = status
        self.add_error("text", detail)

    @property
    def fresh_key(self) -> uuid.UUID:
        """A new key for every rendering: what was refused was not stored, and the next try may have another text."""
        return uuid.uuid4()

    @property
    def typed(self) -> str:
        return str(self.data.get("text", ""))

    @property
    def problems(self) -> list[str]:
        return [str(problem) for problems in self.errors.values() for problem in problems]


class BranchForm(forms.Form):
    """Which message is to be chosen, or answered once more."""

    message = forms.UUIDField()


class TokenForm(forms.Form):
    """What a token is for."""

    name = forms.CharField(max_length=100, label="What is it for?", widget=forms.TextInput({"placeholder": "laptop"}))


class TitleForm(forms.ModelForm[Conversation]):
    class Meta:
        model = Conversation
        fields = ("title",)


class SetupForm(forms.ModelForm[Conversation]):
    """Which of the site's models answers in a conversation, and what it is told before everything else."""

    model = forms.ChoiceField(choices=offered, required=False)
    system_prompt = forms.CharField(strip=False, required=False)

    class Meta:
        model = Conversation
        fields = ("model", "system_prompt")

    def clean_system_prompt(self) -> str:
        text: str = self.cleaned_data["system_prompt"].replace("\r\n", "\n")
        if len(text) > settings.PROMPT_MAX_CHARS:
            raise forms.ValidationError(f"Instructions have at most {settings.PROMPT_MAX_CHARS:,} characters.")
        return text


def focus_on_fault(form: forms.BaseForm) -> None:
    """Put the focus where the first thing is to be corrected; if no field is at fault by itself, in the last."""
    for field in form.fields.values():
        field.widget.attrs.pop("autofocus", None)
    faulty = next((name for name in form.fields if name in form.errors), list(form.fields)[-1])
    form.fields[faulty].widget.attrs["autofocus"] = True


class SignupForm(UserCreationForm[User]):
    """A new account; with a visitor as its instance that visitor becomes the account and keeps the conversations."""

    class Meta:
        model = User
        fields = ("username",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].help_text = ""
        self.fields["password1"].help_text = GOOD_PASSWORD
        self.fields["password2"].help_text = ""
        if self.instance.is_visitor:
            self.initial["username"] = ""

    def validate_password_for_user(self, user: User, _: str = "") -> None:
        # Django says it of the confirmation, which is not at fault.
        super().validate_password_for_user(user, "password1")  # type: ignore[misc]  # Its types lack it.

    def save(self, commit: bool = True) -> User:
        self.instance.is_visitor = False
        user: User = super().save(commit)
        return user


class PasswordForm(PasswordChangeForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["new_password1"].help_text = GOOD_PASSWORD
        self.fields["new_password2"].help_text = ""

    def validate_password_for_user(self, user: User, _: str = "") -> None:
        super().validate_password_for_user(user, "new_password1")
