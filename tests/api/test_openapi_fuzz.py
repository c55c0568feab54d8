"""The OpenAPI document against the service, by what schemathesis makes of it: well-formed requests and broken ones.

Its checks hold each answer against the document (status, content type, body, header fields), find 5xx, and tell good
requests that are refused from bad ones that are not, and routes that do without the credential that they say they need.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from tests.conftest import Databases
from tests.support.app import PASSWORD, create_user, make_app

served = [make_app("sqlite:////nowhere/nothing.db")]


def answer(environ: Any, respond: Any) -> Any:
    """Let the application of the moment answer."""
    return served[-1](environ, respond)


schema = schemathesis.openapi.from_wsgi("/openapi.json", answer)
# Members of a query that are not known are ignored, as those of a body are.
schema.config.generation.allow_extra_parameters = False
schema.config.generation.with_security_parameters = False  # the test brings good ones


@pytest.fixture(scope="module", autouse=True)
def _app(databases: Databases) -> Iterator[None]:
    app = make_app(databases("sqlite"))
    create_user(app)
    served.append(app)
    yield
    served.pop()


@schema.parametrize()
# However busy the machine is.
@settings(max_examples=20, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_answer_differs_from_the_document(case: schemathesis.Case[Any]) -> None:
    # Before each request, because some of them sign out; from elsewhere, because some of them guess passwords.
    client = served[-1].test_client()
    client.environ_base["REMOTE_ADDR"] = "10.0.0.1"
    sign_in = client.post("/api/login", json={"username": "alice", "password": PASSWORD})
    assert sign_in.json is not None
    cookie = sign_in.headers["Set-Cookie"].partition(";")[0].removeprefix("refreshToken=")
    headers = {"Authorization": f"Bearer {sign_in.json['accessToken']}"}
    case.call_and_validate(headers=headers, cookies={"refreshToken": cookie})
