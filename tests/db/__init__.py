"""Tests of `tokenapp.db` and of the migrations."""
