"""The routes of the Express program that this service replaces: its requests, our answers."""

from flask import Flask

from tests.harness import PASSWORD, create_user


def test_sign_in_gives_an_access_token_and_the_cookie(app: Flask) -> None:
    create_user(app)
    reply = app.test_client().post("/api/login", json={"username": "alice", "password": PASSWORD})
    assert reply.status_code == 200
    assert reply.json is not None
    assert reply.json["message"] == "Logged in successfully."
