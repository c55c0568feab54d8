"""The OpenAPI document, and the files of the page that shows it."""

import mimetypes
import re
from typing import Final

import pytest
from flask import Flask
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.conftest import Databases
from tests.support.app import PRODUCTION, ROOT, make_app
from tests.support.client import Client
from tests.support.documented import document_of, operations
from tokenapp.api import docs

IMPLIED_METHODS: Final = {"HEAD", "OPTIONS"}


@pytest.fixture
def plain(databases: Databases) -> Flask:
    """Return the application on SQLite: the document does not depend on the database."""
    return make_app(databases("sqlite"))


def test_document_is_valid_openapi_3_1(plain: Flask) -> None:
    document = document_of(plain)
    assert document["openapi"] == "3.1.0"
    assert not list(OpenAPIV31SpecValidator(document).iter_errors())


def test_document_has_every_route_and_method_and_no_other(plain: Flask) -> None:
    routes = {
        (method, re.sub(r"<(?:[^<>]*:)?(\w+)>", r"{\1}", rule.rule))
        for rule in plain.url_map.iter_rules()
        for method in (rule.methods or set()) - IMPLIED_METHODS
    }
    assert {(method, path) for method, path, _ in operations(document_of(plain))} == routes


def test_undocumented_route_is_detected(plain: Flask) -> None:
    plain.add_url_rule("/new", view_func=lambda: "")
    with pytest.raises(AssertionError, match="/new"):
        test_document_has_every_route_and_method_and_no_other(plain)


def test_every_path_variable_is_documented(plain: Flask) -> None:
    for _method, path, operation in operations(document_of(plain)):
        documented = {each["name"] for each in operation["parameters"] if each.get("in") == "path"}
        assert documented == set(re.findall(r"{(\w+)}", path))


def test_document_narrows_no_schema_with_allof(plain: Flask) -> None:
    # openapi-python-client drops a response whose schema does.
    assert "allOf" not in Client(plain).send("GET", "/openapi.json").text


def test_schema_of_an_error_is_complete_and_names_its_status_and_code(plain: Flask) -> None:
    document = document_of(plain)
    schemas = document["components"]["schemas"]
    for _method, _path, operation in operations(document):
        for status, response in operation["responses"].items():
            content = response.get("content", {}).get("application/problem+json")
            if content is None:
                continue
            references = content["schema"].get("oneOf", [content["schema"]])
            named = [schemas[each["$ref"].rpartition("/")[2]] for each in references]
            assert [each["properties"]["code"]["const"] for each in named] == [*content["examples"]]
            assert {each["properties"]["status"]["const"] for each in named} == {int(status)}
            assert all(set(each["required"]) == set(each["properties"]) for each in named)


def test_document_begins_with_signing_in_as_the_demo_user(plain: Flask) -> None:
    document = document_of(plain)
    assert document["tags"][0] == {"name": "auth"}
    assert next(iter(document["paths"])) == "/api/login"
    properties = document["components"]["schemas"]["LoginBody"]["properties"]
    makefile = (ROOT / "Makefile").read_text()
    assert properties["username"]["examples"] == re.findall(r"users create (\w+)", makefile)
    assert properties["password"]["examples"] == re.findall(r"^DEMO_PASSWORD := (.+)$", makefile, re.MULTILINE)


def test_every_text_of_a_body_has_an_example(plain: Flask) -> None:
    # Without one, the docs page makes up random text from the pattern.
    document = document_of(plain)
    for _method, _path, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content is not None:
            schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
            assert [
                name for name, each in schema["properties"].items() if "pattern" in each and "examples" not in each
            ] == []


def test_document_is_generated_on_first_use(plain: Flask) -> None:
    plain.add_url_rule("/late", view_func=docs.page, endpoint="late")
    assert "/late" in document_of(plain)["paths"]


def test_document_is_the_same_in_every_process(databases: Databases) -> None:
    one, other = (Client(make_app(databases("sqlite"))).send("GET", "/openapi.json") for _ in range(2))
    assert one.header("ETag") == other.header("ETag")


def test_document_is_revalidated_by_caches(plain: Flask) -> None:
    client = Client(plain)
    first = client.send("GET", "/openapi.json")
    assert first.header("Cache-Control") == "public, no-cache"
    again = client.send("GET", "/openapi.json", headers={"If-None-Match": first.header("ETag") or ""})
    assert (again.status, again.body) == (304, b"")


def test_document_of_production_has_its_cookie_and_hsts(databases: Databases) -> None:
    document = document_of(make_app(databases("sqlite"), **PRODUCTION))
    assert document["components"]["securitySchemes"]["refreshCookie"]["name"] == "__Host-refreshToken"
    for _method, _path, operation in operations(document):
        for response in operation["responses"].values():
            assert "Strict-Transport-Security" in response["headers"]


# The files of the page

MEDIA_TYPES: Final = {name: mimetypes.guess_type(name)[0] or "text/plain" for name in docs.FILES}


@pytest.mark.parametrize(("name", "media_type"), MEDIA_TYPES.items())
def test_file_of_the_page_is_served(plain: Flask, name: str, media_type: str) -> None:
    response = Client(plain).send("GET", f"/docs/{name}")
    assert response.status == 200
    assert (response.header("Content-Type") or "").partition(";")[0] == media_type
    assert response.body


@pytest.mark.parametrize("name", docs.FILES)
def test_unchanged_file_of_the_page_is_not_sent_again(plain: Flask, name: str) -> None:
    tag = Client(plain).send("GET", f"/docs/{name}").header("ETag") or ""
    again = Client(plain).send("GET", f"/docs/{name}", headers={"If-None-Match": tag})
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("name", ["index.html", "../__init__.py", "..%2f__init__.py", "start.js/", "%00", "Start.js"])
def test_other_file_is_not_found(plain: Flask, name: str) -> None:
    assert Client(plain).send("GET", f"/docs/{name}").status == 404
