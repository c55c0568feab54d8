"""Tests of `tokenapp.tokens`."""
