"""Tests of `tokenapp.passwords`."""
