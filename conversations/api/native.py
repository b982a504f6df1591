"""The site's JSON API (docs/protocol.md): load what the person may see or 404, validate, one model call, respond."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils.decorators import method_decorator
from django.views.decorators.http import conditional_page
from drf_spectacular.utils import OpenApiParameter
from rest_framework import exceptions
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from conversations.api import throttles
from conversations.api.pagination import NewestFirst, Pages
from conversations.api.schema import KEY_HEADER, operation
from conversations.api.serializers import (
    ChunksInput,
    ChunksOutput,
    ConversationInput,
    ConversationOutput,
    EditInput,
    MessageOutput,
    PromptInput,
    StreamOutput,
    TurnOutput,
    UserOutput,
    VisitorOutput,
    idempotency_key,
    valid,
)
from conversations.models import Conversation, Message, Token, User
from conversations.search import matching
from streaming import engine
from streaming.models import Chunk, Stream


class LengthRequired(exceptions.APIException):
    status_code = HTTPStatus.LENGTH_REQUIRED
    default_code = "length_required"
    default_detail = "Send the body with a Content-Length."


# What all views of the API share. Their docstrings would be in the schema.
# What did not change since a client's last GET, by its ETag, is not sent again.
@method_decorator(conditional_page, name="dispatch")
class View(APIView):
    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        # Rest framework takes a body of unannounced length for none at all.
        if "transfer-encoding" in request.headers and "content-length" not in request.headers:
            raise LengthRequired()
        super().initial(request, *args, **kwargs)

    def person(self) -> User:
        return cast(User, self.request.user)

    def conversation(self, pk: UUID) -> Conversation:
        return get_object_or_404(Conversation.objects.visible_to(self.request.user), pk=pk)

    def conversation_with(self, message: UUID) -> Conversation:
        return get_object_or_404(Conversation.objects.visible_to(self.request.user), messages=message)

    def stream(self, pk: UUID) -> Stream:
        mine = Conversation.objects.visible_to(self.request.user).streams()
        return get_object_or_404(mine.defer("request"), pk=pk)


# A view that also gives pages of a list.
class ListView(View):
    pagination_class: type[Pages]
    output: type[BaseSerializer[Any]]

    def page(self, rows: QuerySet[Any], **context: Any) -> Response:
        pages = self.pagination_class()
        found = pages.paginate_queryset(rows, self.request)
        return pages.get_paginated_response(self.output(found, many=True, context=context).data)


# A view that asks the model for something.
class AskingView(View):
    turn_output: type[BaseSerializer[Any]] = TurnOutput

    def turn(self, found: Conversation, ask: Callable[[UUID | None], Message]) -> Response:
        key = idempotency_key(self.request)
        reply = ask(key)
        if reply.repeated:
            return Response(self.turn_output(reply).data, headers={"Idempotent-Replayed": "true"})
        reply = Message.objects.select_related("parent", "stream").get(pk=reply.pk)
        return Response(self.turn_output(reply).data, status=HTTPStatus.CREATED)


class Visitors(View):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    @operation("Become a guest, without a form to fill", {201: VisitorOutput}, refuses=(429,), auth=[])
    def post(self, request: Request) -> Response:
        throttles.check(request, throttles.VISITORS)
        # Together, or a failure between them leaves a guest whom nobody can be.
        with transaction.atomic():
            visitor = User.new_visitor()
            token = Token.objects.issue(visitor, "visitor")
        return Response(VisitorOutput({"token": token, "user": visitor}).data, status=HTTPStatus.CREATED)


class Me(View):
    @operation("Who I am", {200: UserOutput})
    def get(self, request: Request) -> Response:
        return Response(UserOutput(self.person()).data)


class Conversations(ListView):
    pagination_class = NewestFirst
    output = ConversationOutput

    @operation(
        "My conversations, newest first",
        {200: ConversationOutput(many=True)},
        refuses=(400,),
        parameters=[OpenApiParameter("search", str, description="Only those in whose title or messages this is said.")],
    )
    def get(self, request: Request) -> Response:
        mine = Conversation.objects.visible_to(request.user)
        sought = request.query_params.get("search", "").strip()
        return self.page(matching(mine, sought) if sought else mine)

    @operation("Begin a conversation", {201: ConversationOutput}, takes=ConversationInput, refuses=(400, 413, 415))
    def post(self, request: Request) -> Response:
        made = Conversation.objects.create(owner=self.person(), **valid(ConversationInput, request.data))
        made.refresh_from_db()
        return Response(ConversationOutput(made).data, status=HTTPStatus.CREATED)


class OneConversation(View):
    @operation("A conversation", {200: ConversationOutput}, refuses=(404,))
    def get(self, request: Request, pk: UUID) -> Response:
        return Response(ConversationOutput(self.conversation(pk)).data)

    @operation(
        "Change a conversation", {200: ConversationOutput}, takes=ConversationInput, refuses=(400, 404, 413, 415)
    )
    def patch(self, request: Request, pk: UUID) -> Response:
        found = self.conversation(pk)
        if values := valid(ConversationInput, request.data):
            Conversation.objects.filter(pk=found.pk).update(**values)
            found.refresh_from_db()
        return Response(ConversationOutput(found).data)

    @operation("Delete a conversation with everything in it", {204: None}, refuses=(404,))
    def delete(self, request: Request, pk: UUID) -> Response:
        self.conversation(pk).remove()
        return Response(status=HTTPStatus.NO_CONTENT)


class Messages(ListView, AskingView):
    pagination_class = Pages
    output = MessageOutput

    @operation("The messages of the chosen branch, oldest first", {200: MessageOutput(many=True)}, refuses=(400, 404))
    def get(self, request: Request, pk: UUID) -> Response:
        tree = self.conversation(pk).tree()
        found = Message.objects.filter(pk__in=tree.path(tree.leaf))
        return self.page(found.select_related("stream").defer("stream__request"), tree=tree)

    @operation(
        "Ask, which starts the stream of an answer",
        {201: TurnOutput, 200: TurnOutput},
        takes=PromptInput,
        refuses=(400, 404, 409, 413, 415, 422, 429),
        parameters=[KEY_HEADER],
    )
    def post(self, request: Request, pk: UUID) -> Response:
        found = self.conversation(pk)
        said = valid(PromptInput, request.data)
        return self.turn(found, lambda key: found.ask(said["text"], key, said.get("parent")))

    @operation("Clear a conversation: delete its messages", {204: None}, refuses=(404,))
    def delete(self, request: Request, pk: UUID) -> Response:
        self.conversation(pk).clear()
        return Response(status=HTTPStatus.NO_CONTENT)


class Regenerate(AskingView):
    @operation(
        "Answer a prompt, or that of a reply, once more",
        {201: TurnOutput, 200: TurnOutput},
        refuses=(400, 404, 409, 422, 429),
        parameters=[KEY_HEADER],
    )
    def post(self, request: Request, pk: UUID) -> Response:
        found = self.conversation_with(pk)
        return self.turn(found, lambda key: found.regenerate(pk, key))


class Edit(AskingView):
    @operation(
        "Ask something else in the place of a prompt",
        {201: TurnOutput, 200: TurnOutput},
        takes=EditInput,
        refuses=(400, 404, 409, 413, 415, 422, 429),
        parameters=[KEY_HEADER],
    )
    def post(self, request: Request, pk: UUID) -> Response:
        found = self.conversation_with(pk)
        text = valid(EditInput, request.data)["text"]
        return self.turn(found, lambda key: found.edit(pk, text, key))


class Choose(View):
    @operation("Choose the branch of a message", {204: None}, refuses=(404,))
    def post(self, request: Request, pk: UUID) -> Response:
        self.conversation_with(pk).choose(pk)
        return Response(status=HTTPStatus.NO_CONTENT)


class OneStream(View):
    @operation("An answer as far as it is known", {200: StreamOutput}, refuses=(404,))
    def get(self, request: Request, pk: UUID) -> Response:
        return Response(StreamOutput(self.stream(pk)).data)


class Chunks(View):
    @operation(
        "The rows of a stream's log, a page at a time",
        {200: ChunksOutput},
        refuses=(400, 404),
        parameters=[OpenApiParameter("after", int, description="The position behind which to begin.", default=0)],
    )
    def get(self, request: Request, pk: UUID) -> Response:
        after = valid(ChunksInput, request.query_params.dict())["after"]
        rows, more = Chunk.objects.page(self.stream(pk).pk, after, settings.READER_PAGE_BYTES)
        next_after = rows[-1].seq if rows else after
        return Response(ChunksOutput({"results": rows, "next_after": next_after, "more": more}).data)


class Stop(View):
    @operation("End a stream; nothing happens to one that has ended", {200: StreamOutput}, refuses=(404,))
    def post(self, request: Request, pk: UUID) -> Response:
        found = self.stream(pk)
        engine.stop(Stream.objects.filter(pk=found.pk))
        return Response(StreamOutput(self.stream(pk)).data)


class NotFound(View):
    """Every path under /api/ that is nothing else, so that also these are refused in the one shape."""

    schema = None
    authentication_classes = ()
    permission_classes = (AllowAny,)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise exceptions.NotFound("There is nothing at this address. The addresses of this API end with a slash.")
