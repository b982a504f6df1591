"""The API's calls on a conversation as a whole: its link to be shared, and the whole of it as a file."""

from __future__ import annotations

from http import HTTPStatus
from uuid import UUID

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from conversations import export, sharing
from conversations.api.native import View
from conversations.api.schema import operation
from conversations.api.serializers import ExportInput, ShareOutput, valid

KINDS = {"json": "json", "markdown": "md"}


class Share(View):
    @operation("Share a conversation: anybody with the address may read it, live", {200: ShareOutput}, refuses=(404,))
    def post(self, request: Request, pk: UUID) -> Response:
        found = self.conversation(pk)
        sharing.begin(found)
        return Response(ShareOutput({"url": sharing.share_url(request, found)}).data)

    @operation("Stop sharing; the address leads nowhere from then on", {204: None}, refuses=(404,))
    def delete(self, request: Request, pk: UUID) -> Response:
        sharing.end(self.conversation(pk))
        return Response(status=HTTPStatus.NO_CONTENT)


class Export(View):
    @operation(
        "A conversation as a file: its chosen branch as Markdown, or all that was said as JSON",
        {(200, "application/json"): OpenApiTypes.OBJECT, (200, "text/markdown"): OpenApiTypes.STR},
        refuses=(400, 404),
        parameters=[OpenApiParameter("as", str, enum=list(KINDS), default="json")],
    )
    def get(self, request: Request, pk: UUID) -> HttpResponse:
        kind = valid(ExportInput, request.query_params.dict())["as"]
        return export.download(self.conversation(pk), KINDS[kind])
