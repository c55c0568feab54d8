"""The gunicorn side of the service: worker, allocator and metrics listener."""
