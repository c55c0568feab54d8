"""What a mail looks like, and that no request can change it."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from string import Formatter

import pytest
from flask import Flask

from tests.conftest import Databases
from tests.support.app import PASSWORD, PRODUCTION, application, create_user
from tests.support.client import Client, sign_in
from tests.support.commandline import error_of, run
from tests.support.mailbox import TOKEN, Mailbox, deliver, html_of, text_of
from tokenapp import accounts
from tokenapp.api.account_page import read_texts
from tokenapp.mail import delivery, texts
from tokenapp.mail.outbox import Content

ISSUER = PRODUCTION["TOKENAPP_ISSUER"]
KINDS = list(texts.texts_of("en"))
NOW = datetime.now(UTC)


REQUESTS = ("register", "password-reset", "me/email")
EVIL = {
    "Host": "evil.example",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "https",
    "Forwarded": "host=evil.example;proto=https",
    "Origin": "https://evil.example",
    "Referer": "https://evil.example/",
    "X-Forwarded-Prefix": "/evil",
}


def ask(app: Flask, path: str = "register", email: str = "alice@example.com", **headers: str) -> int:
    """Request a mail to an address; a change of address is that of another user."""
    client = Client(app)
    if path == "me/email":
        create_user(app, "mover")
        client.login("mover")
    return client.call("POST", f"/api/{path}", payload={"email": email}, headers=headers).status


def test_headers_of_a_mail(app: Flask, mailbox: Mailbox) -> None:
    ask(app)
    deliver(app)
    (message,) = mailbox.messages
    assert message["To"] == "alice@example.com"
    assert message["From"] == "tokenapp <tokenapp@localhost>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert re.fullmatch(r"<\S+@localhost>", message["Message-ID"])
    assert message.get_content_type() == "multipart/alternative"


def test_link_is_the_same_in_text_and_html_and_hidden_in_the_fragment(app: Flask, mailbox: Mailbox) -> None:
    ask(app)
    deliver(app)
    (message,) = mailbox.messages
    link = re.compile(rf"http://localhost:3005/account#register={TOKEN}")
    assert {*link.findall(text_of(message))} == {*link.findall(html_of(message))} != set()


@pytest.mark.parametrize("path", REQUESTS)
def test_no_header_of_a_request_changes_the_mail(app: Flask, mailbox: Mailbox, path: str) -> None:
    if path == "password-reset":
        create_user(app, email="alice@example.com")
    assert ask(app, path, **EVIL) == 202
    deliver(app)
    (message,) = mailbox.messages
    assert "evil" not in message.as_string()
    assert "evil" not in text_of(message) + html_of(message)
    assert "http://localhost:3005/account#" in text_of(message)


def test_no_header_of_a_confirmation_changes_the_mail_to_the_previous_address(app: Flask, mailbox: Mailbox) -> None:
    create_user(app, email="alice@example.com")
    sign_in(app).call("POST", "/api/me/email", payload={"email": "alice@example.org"})
    deliver(app)
    payload = {"token": mailbox.token("email")}
    assert Client(app).send("POST", "/api/me/email/complete", payload=payload, headers=EVIL).status == 204
    deliver(app)
    message = mailbox.messages[-1]
    assert "evil" not in message.as_string() + text_of(message) + html_of(message)
    assert "http://localhost:3005/account#undo=" in text_of(message)


@pytest.mark.parametrize(
    ("stored", "given"),
    [
        ("kim@kiosk.example", "\u212aim@\u212aiosk.example"),
        ("a@gmail.com", "a@\u24d6\u24dc\u24d0\u24d8\u24db.com"),
        ("a@b\u00fccher.example", "a@xn--bcher-kva.example"),
        ("A.B@Example.com", "a.b@example.COM"),
    ],
)
@pytest.mark.parametrize("path", REQUESTS)
def test_mail_goes_to_the_stored_address(app: Flask, mailbox: Mailbox, path: str, stored: str, given: str) -> None:
    with app.app_context():
        accounts.create(accounts.NewUser("owner", PASSWORD, email=stored, email_verified=True), NOW)
    assert ask(app, path, given) == 202
    deliver(app)
    local, _, domain = stored.rpartition("@")
    assert mailbox.recipients() == [f"{local}@{domain.encode('idna').decode()}"]


@pytest.mark.parametrize(
    "given", ["\u212aim@example.com", "a@\u24d6mail.com", "a@stra\u00dfe.example", "a@xn--0.example\u3002com"]
)
@pytest.mark.parametrize("path", ["register", "me/email"])
def test_address_that_a_server_could_change_gets_no_mail(app: Flask, mailbox: Mailbox, path: str, given: str) -> None:
    assert ask(app, path, given) in {202, 400}
    deliver(app)
    assert mailbox.attempts == 0


def test_dotless_i_is_another_address(app: Flask, mailbox: Mailbox) -> None:
    with app.app_context():
        accounts.create(accounts.NewUser("owner", PASSWORD, email="kim@example.com", email_verified=True), NOW)
    ask(app, "password-reset", "k\u0131m@example.com")
    deliver(app)
    assert mailbox.attempts == 0


def test_name_cannot_add_lines_or_markup(app: Flask, mailbox: Mailbox) -> None:
    with app.app_context():
        name = "<b>bold</b>{brand}%s"
        accounts.create(accounts.NewUser(name, PASSWORD, email="alice@example.com", email_verified=True), NOW)
    ask(app, "password-reset")
    deliver(app)
    (message,) = mailbox.messages
    assert name in text_of(message)
    assert "<bdi>&lt;b&gt;bold&lt;/b&gt;{brand}%s</bdi>" in html_of(message)


@pytest.mark.parametrize("name", ["a\r\nBcc: eve@example.com", "a\nb", "a\x0bb", "a\u2028b"])
def test_line_break_in_a_recipient_or_subject_is_never_sent(app: Flask, mailbox: Mailbox, name: str) -> None:
    with app.app_context(), pytest.raises(ValueError, match=r".*"):
        delivery.send(Content(f"{name}@example.com", "subject", "text", "html", "en"), "<id@localhost>", NOW)
    assert mailbox.attempts == 0


class Tags(HTMLParser):
    """The tags and the addresses of resources in a document."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.resources: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.resources += [value or "" for name, value in attrs if name in {"src", "background", "srcset", "poster"}]


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_every_mail_is_complete_in_every_language(app: Flask, language: str) -> None:
    english, own = texts.texts_of("en"), texts.texts_of(language)
    assert own.keys() == english.keys()
    for kind in KINDS:
        fields = [
            sorted({name for line in (text.subject, *text.body) for _, name, *_ in Formatter().parse(line) if name})
            for text in (english[kind], own[kind])
        ]
        assert fields[0] == fields[1], kind
        with app.app_context():
            values = dict.fromkeys(("name", "when", "device", "address", "factor"), "VALUE")
            content = texts.render(kind, "a@example.com", language, link="reset=TOKEN", **values)
        seen = Tags(content.html)
        assert seen.resources == []
        assert not seen.tags & {"script", "img", "link", "iframe", "form", "svg"}
        assert f'lang="{language}" dir="{"rtl" if language == "ar" else "ltr"}"' in content.html
        assert "prefers-color-scheme: dark" in content.html
        assert "{" not in content.subject + content.text


@pytest.mark.parametrize(
    ("preferred", "language"),
    [("de-CH,de;q=0.9,en;q=0.8", "de"), ("nl,fr;q=0.5", "fr"), ("ar-EG", "ar"), ("", "en"), ("xx", "en"), ("*", "en")],
)
def test_mail_is_in_the_language_of_the_browser(app: Flask, mailbox: Mailbox, preferred: str, language: str) -> None:
    ask(app, **{"Accept-Language": preferred})
    deliver(app)
    assert mailbox.messages[0]["Content-Language"] == language


@pytest.mark.parametrize("path", REQUESTS)
def test_mail_is_in_the_stored_language_of_the_user(app: Flask, mailbox: Mailbox, path: str) -> None:
    with app.app_context():
        accounts.create(accounts.NewUser("alice", PASSWORD, email="alice@example.com", locale="es"), NOW)
    ask(app, path, **{"Accept-Language": "de"})
    deliver(app)
    assert mailbox.messages[0]["Content-Language"] == "es"


def test_sender_has_the_name_of_the_settings(database_url: str, mailbox: Mailbox) -> None:
    settings = {"TOKENAPP_SMTP_URL": mailbox.url, "TOKENAPP_MAIL_FROM": "B\u00fccher & Co <accounts@example.com>"}
    with application(database_url, **settings) as app:
        ask(app)
        deliver(app)
    (message,) = mailbox.messages
    assert message["From"] == "B\u00fccher & Co <accounts@example.com>"
    assert "B\u00fccher & Co" in message["Subject"]


@pytest.mark.parametrize(
    ("sender", "brand", "used"),
    [("N <a@example.com>", "B", "N"), ("a@example.com", "B", "B"), ("a@example.com", "", "")],
)
def test_mail_names_the_service_by_its_sender_or_brand(
    databases: Databases, mailbox: Mailbox, sender: str, brand: str, used: str
) -> None:
    settings = {"TOKENAPP_SMTP_URL": mailbox.url, "TOKENAPP_MAIL_FROM": sender}
    with application(databases("sqlite"), **settings, **({"TOKENAPP_BRAND_NAME": brand} if brand else {})) as app:
        ask(app)
        deliver(app)
    assert mailbox.messages[0]["Subject"] == f"Create your account at {used or 'localhost'}"


def test_operator_sends_a_test_mail(app: Flask, mailbox: Mailbox) -> None:
    assert run(app, "mail", "test", "alice@example.com").stdout == "Sent.\n"
    assert mailbox.recipients() == ["alice@example.com"]
    mailbox.behaviour = "5xx"
    error = error_of(run(app, "mail", "test", "alice@example.com", code=1))
    assert error == "The mail was not sent: SMTP 550: no such mailbox."


def test_operator_lists_mails_without_recipients(app: Flask, mailbox: Mailbox) -> None:
    ask(app)
    mailbox.behaviour = "4xx"
    deliver(app)
    listed = run(app, "mail", "list").stdout
    assert "SMTP 451" in listed
    assert "alice" not in listed
    mailbox.behaviour = "accept"
    assert run(app, "mail", "retry").stdout == "Queued 1 mail for now.\n"
    assert deliver(app) == 1
    assert "sent" in run(app, "mail", "list", "--json").stdout


@pytest.mark.parametrize("language", texts.LANGUAGES)
def test_mails_name_the_link_of_the_account_page_as_it_does(language: str) -> None:
    label = read_texts(language)["sign-in"]["forgotten"]
    lines = {line for text in texts.texts_of(language).values() for line in text.body}
    quoted = {found for line in lines for found in re.findall("[\u201c\u201e\u00ab](.*?)[\u201d\u201c\u00bb]", line)}
    assert {" ".join(each.split()) for each in quoted} - {"{device}"} == {label}
