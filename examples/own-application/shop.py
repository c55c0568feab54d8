"""A shop whose views run in the login service: docs/own-application.md."""

from datetime import datetime

import sqlalchemy as sa
from flask import Blueprint, Flask, abort, request
from flask.typing import ResponseReturnValue
from flask_jwt_extended import get_jwt, get_jwt_identity, jwt_required
from sqlalchemy.orm import Mapped, mapped_column

import tokenapp
from tokenapp.db import db, reading, writing

orders = Blueprint("orders", __name__, url_prefix="/orders")


class Order(db.Model):
    """What a user ordered; `user_id` is the claim `sub`."""

    __tablename__ = "shop_orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(sa.String(64), index=True)
    article: Mapped[str] = mapped_column(sa.String(100))
    ordered_at: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True), server_default=sa.func.now())


@orders.get("")
@jwt_required()
def list_orders() -> ResponseReturnValue:
    """Return the caller's orders."""
    mine = sa.select(Order.article).where(Order.user_id == get_jwt_identity()).order_by(Order.id)
    with reading() as session:
        return {"of": get_jwt()["username"], "articles": list(session.scalars(mine))}


@orders.post("")
@jwt_required()
def order() -> ResponseReturnValue:
    """Order an article."""
    article = request.get_json().get("article")
    if article == "unicorn":
        abort(409, "Unicorns are sold out.")
    with writing() as session:
        session.add(Order(user_id=get_jwt_identity(), article=article))
    return {"ordered": article}, 201


@orders.delete("")
@jwt_required(fresh=True)
def cancel_all() -> ResponseReturnValue:
    """Cancel the caller's orders, who signed in within the last 15 minutes."""
    with writing() as session:
        session.execute(sa.delete(Order).where(Order.user_id == get_jwt_identity()))
    return "", 204


def create_app() -> Flask:
    """Create the application of the service, with the shop's views."""
    app = tokenapp.create_app()
    app.register_blueprint(orders)
    return app
