"""Operator commands."""

from flask import Blueprint

users = Blueprint("users", __name__)
sessions = Blueprint("sessions", __name__)
