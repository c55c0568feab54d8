"""Tests of `tokenapp_guard` with the real service."""
