"""A shop with the login service below /auth: docs/own-application.md."""

import os

from flask import Flask
from flask.typing import ResponseReturnValue
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tokenapp.wsgi import app as service
from tokenapp_guard import Guard

shop = Flask(__name__)
guard = Guard(os.environ["TOKENAPP_ISSUER"], audience="tokenapp-api")


@shop.get("/orders")
@guard.required
def list_orders() -> ResponseReturnValue:
    """Return the name of the caller."""
    return {"of": guard.claims["username"]}


application = DispatcherMiddleware(shop, {"/auth": service})
