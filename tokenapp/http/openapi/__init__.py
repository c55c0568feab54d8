"""The OpenAPI document, generated from the endpoints."""

from tokenapp.http.openapi.document import build

__all__ = ["build"]
