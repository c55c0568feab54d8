"""The same two routes the textbook way: flask-jwt-extended and the Flask-SQLAlchemy ORM, as their own pages show it.

Refresh tokens are rotated by putting the used one on a blocklist table that each request consults.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Flask, Response, jsonify
from flask_jwt_extended import (
    JWTManager,
    create_access_token,
    create_refresh_token,
    get_jwt,
    get_jwt_identity,
    jwt_required,
    set_refresh_cookies,
)
from flask_sqlalchemy import SQLAlchemy


def make_textbook(database_url: str) -> Flask:
    """Make the application on an empty database."""
    app = Flask("textbook")
    app.config.update(
        SQLALCHEMY_DATABASE_URI=database_url,
        JWT_SECRET_KEY="a secret for the benchmark, of thirty-two bytes and more",
        JWT_TOKEN_LOCATION=["headers", "cookies"],
        JWT_COOKIE_CSRF_PROTECT=False,
        JWT_REFRESH_TOKEN_EXPIRES=timedelta(days=7),
    )
    db = SQLAlchemy(app)
    jwt = JWTManager(app)

    class Blocked(db.Model):  # type: ignore[name-defined, misc]  # the library's dynamic base
        """A token that must not be used again."""

        id = db.Column(db.Integer, primary_key=True)
        jti = db.Column(db.String(36), nullable=False, index=True)
        created_at = db.Column(db.DateTime, nullable=False)

    @jwt.token_in_blocklist_loader
    def is_blocked(_header: dict[str, Any], payload: dict[str, Any]) -> bool:
        return db.session.query(Blocked.id).filter_by(jti=payload["jti"]).scalar() is not None

    @app.post("/api/login")
    def login() -> Response:
        response = jsonify(accessToken=create_access_token("alice"))
        set_refresh_cookies(response, create_refresh_token("alice"))
        return response

    @app.post("/api/token")
    @jwt_required(refresh=True, locations=["cookies"])
    def refresh() -> Response:
        db.session.add(Blocked(jti=get_jwt()["jti"], created_at=datetime.now(UTC)))
        db.session.commit()
        response = jsonify(accessToken=create_access_token(get_jwt_identity()))
        set_refresh_cookies(response, create_refresh_token(get_jwt_identity()))
        return response

    @app.get("/api/protected")
    @jwt_required(locations=["headers"])
    def protected() -> Response:
        return jsonify(message=f"Welcome, {get_jwt_identity()}! This is protected data.")

    with app.app_context():
        db.create_all()
    return app
