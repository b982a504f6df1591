"""The API's calls on one's own bearer tokens. A secret is told once, when it is made; only its digest is kept."""

from __future__ import annotations

from http import HTTPStatus

from django.shortcuts import get_object_or_404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from conversations.api.native import View
from conversations.api.schema import operation
from conversations.api.serializers import Input, Moment, Text, asked_like, not_blank, valid
from conversations.models import Token


@asked_like("For a laptop", {"name": "laptop"})
class TokenInput(Input):
    name = Text(max_length=100, validators=[not_blank], help_text="What it is for.")


class TokenOutput(serializers.ModelSerializer[Token]):
    created_at = Moment()
    last_used_at = Moment(allow_null=True, help_text="The first use of the last day it was used on.")

    class Meta:
        model = Token
        fields = ("id", "name", "created_at", "last_used_at")


class NewTokenOutput(TokenOutput):
    token = serializers.CharField(help_text="The secret, told this once.")

    class Meta(TokenOutput.Meta):
        fields = (*TokenOutput.Meta.fields, "token")  # type: ignore[assignment]


class Tokens(View):
    @operation("My tokens, the newest first", {200: TokenOutput(many=True)})
    def get(self, request: Request) -> Response:
        mine = self.person().tokens.order_by("-created_at", "-pk")
        return Response(TokenOutput(mine, many=True).data)

    @operation("Make a token", {201: NewTokenOutput}, takes=TokenInput, refuses=(400, 409, 413, 415))
    def post(self, request: Request) -> Response:
        secret = self.person().tokens.issue(self.person(), valid(TokenInput, request.data)["name"])
        made = self.person().tokens.get(digest=Token.digest_of(secret))
        made.token = secret  # type: ignore[attr-defined]  # For this one answer.
        return Response(NewTokenOutput(made).data, status=HTTPStatus.CREATED)


class OneToken(View):
    @operation("Revoke a token, which may be the one this is asked with", {204: None}, refuses=(404,))
    def delete(self, request: Request, pk: int) -> Response:
        get_object_or_404(self.person().tokens, pk=pk).delete()
        return Response(status=HTTPStatus.NO_CONTENT)
