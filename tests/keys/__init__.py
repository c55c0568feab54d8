"""Tests of `tokenapp.keys`."""
