"""Code in colours: Pygments tokens as spans of a few classes, for which the site's sheet has light and dark colours."""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from html import escape
from itertools import groupby
from typing import Any

from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Generic, Keyword, Literal, Name, Number, Operator, String

logger = logging.getLogger(__name__)
# The first that holds a token's type names its class; what none holds is plain.
_CLASSES = (
    (Comment, "tok-comment"),
    (Keyword, "tok-keyword"),
    (Operator.Word, "tok-keyword"),
    (String, "tok-string"),
    (Number, "tok-number"),
    (Literal, "tok-number"),
    (Name.Function, "tok-name"),
    (Name.Class, "tok-name"),
    (Name.Tag, "tok-keyword"),
    (Name.Attribute, "tok-name"),
    (Name.Decorator, "tok-builtin"),
    (Name.Builtin, "tok-builtin"),
    (Name.Exception, "tok-builtin"),
    (Name.Variable, "tok-builtin"),
    (Name.Constant, "tok-number"),
    (Generic.Deleted, "tok-deleted"),
    (Generic.Inserted, "tok-inserted"),
    (Generic.Heading, "tok-name"),
    (Generic.Subheading, "tok-builtin"),
)
TOKENS = frozenset(name for _, name in _CLASSES)
# Named one by one: a model must not choose among the hundreds of lexers, some of which are slow on hostile text.
_LANGUAGES = re.compile(
    r"bash|c|c#|c\+\+|clojure|cpp|cs|csharp|css|csv|dart|diff|docker|dockerfile|elixir|"
    r"erlang|fortran|go|golang|graphql|groovy|haskell|hs|html|http|ini|java|javascript|js|"
    r"json|jsx|julia|kotlin|latex|lua|make|makefile|matlab|nginx|objective-c|ocaml|perl|php|"
    r"powershell|properties|ps1|py|python|r|rb|ruby|rs|rust|scala|scss|sh|shell|sql|swift|"
    r"terraform|tex|toml|ts|tsx|typescript|vim|xml|yaml|yml|zsh"
)


@lru_cache(maxsize=256)
def highlight(language: str, code: str) -> str:
    """`code` as HTML, or nothing if the language is not known."""
    if not _LANGUAGES.fullmatch(language):
        return ""
    try:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
        tokens = list(lexer.get_tokens(code))
    except Exception:  # A lexer's mistake must not cost the page that shows the code.
        logger.exception("no colours for a block of %s", language)
        return ""
    if "".join(text for _, text in tokens) != code:
        return ""
    coloured = groupby(((_class_of(kind), text) for kind, text in tokens), key=lambda pair: pair[0])
    return "".join(_span(name, "".join(text for _, text in pairs)) for name, pairs in coloured)


@lru_cache(maxsize=1000)
def _class_of(kind: Any) -> str:
    return next((name for family, name in _CLASSES if kind in family), "")


def _span(name: str, text: str) -> str:
    words = escape(text, quote=False)
    return f'<span class="{name}">{words}</span>' if name and not text.isspace() else words
