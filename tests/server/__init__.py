"""The service under gunicorn, and as the guides deploy it."""
