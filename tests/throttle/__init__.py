"""Tests of `tokenapp.throttle`."""
