"""Tests of the service under gunicorn, granian, nginx and systemd."""
