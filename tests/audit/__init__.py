"""Tests of `tokenapp.audit` and of the ``flask events`` commands."""
