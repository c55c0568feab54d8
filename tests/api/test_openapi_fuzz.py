"""Fuzz the service with schemathesis.

It generates requests from the OpenAPI document. Its checks compare each response with the document (status, content
type, body, headers), and find 5xx, rejected valid requests, accepted invalid ones, and routes that do not require the
documented credential.
"""

import os
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance, unsupported_method

from tests.conftest import Databases
from tests.support.app import create_user, make_app
from tests.support.client import Client, until_available
from tokenapp import errors

EXAMPLES: Final = int(os.environ.get("FUZZ_EXAMPLES", "5"))  # of each operation; `make soak` runs more
served = [make_app("sqlite:////nowhere/nothing.db")]


def respond(environ: Any, start_response: Any) -> Any:
    """Call the application that is being tested.

    This closes the response, as a server does and schemathesis does not.
    """
    response: Any = served[-1](environ, start_response)
    with closing(response):
        return [b"".join(response)]


schema = schemathesis.openapi.from_wsgi("/openapi.json", respond)
# Unknown query parameters are ignored, as unknown fields of a body are.
schema.config.generation.allow_extra_parameters = False
schema.config.generation.with_security_parameters = False  # the test sends valid ones

# The body has the documented form. Its link, credential or address is not one that the service accepts.
_VALUE_REJECTED: Final = {kind.code for kind in (errors.AddressRejected, errors.LinkInvalid, errors.PasskeyRejected)}


@pytest.fixture(scope="module", autouse=True)
def _app(databases: Databases) -> Iterator[None]:
    app = make_app(databases("sqlite"))
    create_user(app)
    served.append(app)
    yield
    served.pop()


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_response_is_documented(case: schemathesis.Case[Any]) -> None:
    # A new session for each request, because some requests revoke it; from another address, because some send wrong
    # passwords.
    with suppress(errors.UsernameTaken):  # a request may have deleted the account
        create_user(served[-1])
    client = Client(served[-1])
    assert until_available(lambda: client.login(environ={"REMOTE_ADDR": "10.0.0.1"})).status == 200
    # schemathesis knows a credential in these headers as valid, and repeats the request without it.
    headers = {"Authorization": f"Bearer {client.token}", "Cookie": f"refreshToken={client.cookie}"}
    # This route checks requests of any method; tests/api/test_forward_auth.py tests it.
    excluded = [unsupported_method] if case.operation.path == "/api/verify" else []
    while (response := case.call(headers=headers)).status_code == 503:  # a busy machine
        pass
    # For JSON Schema 60.0 is an integer; the service takes integers without a fraction only.
    fraction = isinstance(case.body, dict) and any(isinstance(value, float) for value in case.body.values())
    if response.status_code == 400 and (fraction or response.json().get("code") in _VALUE_REJECTED):
        excluded.append(positive_data_acceptance)
    case.validate_response(response, headers=headers, excluded_checks=excluded, transport_kwargs={"headers": headers})
