"""What the flask command loads in a checkout."""

from tokenapp.wsgi import app

__all__ = ["app"]
