"""Tests of second factors and passkeys."""
