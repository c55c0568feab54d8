"""Tests of `tokenapp.sessions`."""
