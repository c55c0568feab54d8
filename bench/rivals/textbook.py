"""The textbook program: flask-jwt-extended and Flask-SQLAlchemy, by their guides.

A refresh adds the used token to a blocklist table and issues a new pair of tokens. Every request queries that table.
"""

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from flask import Flask, Response, jsonify, request
from flask_jwt_extended import (
    JWTManager,
    create_access_token,
    create_refresh_token,
    get_jwt,
    get_jwt_identity,
    jwt_required,
    set_refresh_cookies,
    unset_jwt_cookies,
)
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event

db = SQLAlchemy()
jwt = JWTManager()
hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)


class User(db.Model):  # type: ignore[name-defined, misc]  # the library's dynamic base
    """A user."""

    id = db.Column(db.Integer, primary_key=True)
    username = db.Column(db.String(64), unique=True, nullable=False)
    password_hash = db.Column(db.String(128), nullable=False)


class Blocked(db.Model):  # type: ignore[name-defined, misc]  # the same
    """A token that is no longer valid."""

    id = db.Column(db.Integer, primary_key=True)
    jti = db.Column(db.String(36), nullable=False, index=True)
    created_at = db.Column(db.DateTime, nullable=False)


@jwt.token_in_blocklist_loader
def is_blocked(_header: dict[str, Any], payload: dict[str, Any]) -> bool:
    return db.session.query(Blocked.id).filter_by(jti=payload["jti"]).scalar() is not None


def _block() -> None:
    db.session.add(Blocked(jti=get_jwt()["jti"], created_at=datetime.now(UTC)))
    db.session.commit()


def _pair(username: str) -> Response:
    response = jsonify(accessToken=create_access_token(username))
    set_refresh_cookies(response, create_refresh_token(username))
    return response


def login() -> Response | tuple[Response, int]:
    body = request.get_json()
    user = db.session.query(User).filter_by(username=body["username"]).one_or_none()
    try:
        hasher.verify(user.password_hash if user else "", body["password"])
    except VerifyMismatchError:
        return jsonify(message="Invalid credentials."), 401
    return _pair(body["username"])


@jwt_required(refresh=True, locations=["cookies"])
def refresh() -> Response:
    _block()
    return _pair(get_jwt_identity())


@jwt_required(refresh=True, locations=["cookies"])
def logout() -> tuple[Response, int]:
    _block()
    response = Response(status=204)
    unset_jwt_cookies(response)
    return response, 204


@jwt_required(locations=["headers"])
def protected() -> Response:
    return jsonify(message=f"Welcome, {get_jwt_identity()}! This is protected data.")


def make_app() -> Flask:
    """Create the application on DATABASE_URL, and any missing tables."""
    app = Flask("textbook")
    app.config.update(
        SQLALCHEMY_DATABASE_URI=os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://"),
        JWT_SECRET_KEY="a secret for the benchmark, of thirty-two bytes and more",
        JWT_TOKEN_LOCATION=["headers", "cookies"],
        JWT_COOKIE_CSRF_PROTECT=False,
        JWT_REFRESH_TOKEN_EXPIRES=timedelta(days=7),
    )
    db.init_app(app)
    jwt.init_app(app)
    app.add_url_rule("/api/login", view_func=login, methods=["POST"])
    app.add_url_rule("/api/token", view_func=refresh, methods=["POST"])
    app.add_url_rule("/api/logout", view_func=logout, methods=["POST"])
    app.add_url_rule("/api/protected", view_func=protected)
    app.add_url_rule("/healthz", view_func=lambda: "ok", endpoint="healthz")
    with app.app_context():
        if os.environ.get("WAL"):
            event.listen(db.engine, "connect", _same_file_settings)
        db.create_all()
        db.engine.dispose()
    return app


def _same_file_settings(connection: Any, _record: object) -> None:
    """Use the SQLite settings of this service, which are faster than the defaults."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
