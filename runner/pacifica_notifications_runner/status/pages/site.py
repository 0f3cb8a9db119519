"""The frame of all pages."""

from __future__ import annotations

import enum

import attrs

from pacifica_notifications_runner.status.pages.markup import Markup, tag

_PAGES = (("/", "Overview"), ("/jobs", "Jobs"), ("/notifications", "Notifications"), ("/replay", "Replay"))


@attrs.frozen(kw_only=True)
class Site:
    """The frame of one consumer's pages; ``csrf`` is the token of forms against cross-site requests."""

    name: str
    csrf: str = attrs.field(repr=False)

    def page(self, title: str, *content: object, live: bool = False) -> str:
        """A page; the page's script keeps a ``live`` one up to date."""
        pause = tag("button", "Pause updates", type="button", id="pause", hidden=True, aria_pressed="false")
        links = tag("ul", [tag("li", tag("a", text, href=href)) for href, text in _PAGES])
        body = tag(
            "body",
            tag("a", "Skip to content", href="#main", class_="skip"),
            tag(
                "header",
                tag("strong", self.name),
                tag("nav", links, aria_label="Pages"),
                live and pause,
                self.form("/logout", tag("button", "Sign out", type="submit")),
            ),
            tag("main", tag("h1", title), *content, id="main", data_live=live),
        )
        return document(f"{title}: {self.name}", body, refreshed=live)

    def form(self, action: str, *fields: object) -> Markup:
        """A form with the token against cross-site requests."""
        token = tag("input", type="hidden", name="csrf", value=self.csrf)
        return tag("form", token, *fields, method="post", action=action)

    def narrowed_list(
        self, path: str, rows: Markup, before: int | None, parameter: str, words: type[enum.Enum], chosen: object
    ) -> str:
        """The page of a list, with links that narrow it to a word, and a link to the entries ``before`` a number."""
        choice, query = [tag("li", tag("a", "All", href=path, aria_current=chosen is None and "page"))], ""
        title = path[1:].capitalize()
        for word in words:
            narrowed = f"{parameter}={word.value}"
            link = tag("a", word.value, href=f"{path}?{narrowed}", aria_current=word is chosen and "page")
            choice.append(tag("li", link))
            if word is chosen:
                title, query = f"{title}: {word.value}", f"&{narrowed}"
        return self.page(
            title,
            tag("nav", tag("ul", choice), aria_label=f"{parameter.capitalize()}s", class_="choice"),
            tag("section", rows, id=f"live-{path[1:]}"),
            before is not None and tag("p", tag("a", "Older ones", href=f"{path}?before={before}{query}")),
            live=True,
        )

    def problem(self, title: str, detail: str) -> str:
        """The page with the reason of a refusal."""
        return self.page(title, tag("p", detail, class_="trouble", role="alert"))


def document(title: str, body: Markup, *, refreshed: bool = False, script: str = "/script.js") -> str:
    """A document; browsers without scripts reload a ``refreshed`` one."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("link", rel="stylesheet", href="/style.css"),
        refreshed and tag("noscript", tag("meta", http_equiv="refresh", content="15")),
        tag("script", src=script, defer=True),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def login(name: str, trouble: str = "") -> str:
    """The page that asks for the token."""
    command = tag("code", "pacifica-notifications-consumer status")
    field = tag("input", type="password", name="token", required=True, autofocus=True, autocomplete="current-password")
    submit = tag("button", "Sign in", type="submit")
    body = tag(
        "main",
        tag("h1", f"Status of {name}"),
        trouble and tag("p", trouble, class_="trouble", role="alert"),
        tag("p", "The consumer makes a new token at each start. On its machine, ", command, " prints it."),
        tag("form", tag("p", tag("label", "Token ", field)), submit, method="post", action="/login"),
        id="main",
    )
    return document(f"Status of {name}", tag("body", body))
