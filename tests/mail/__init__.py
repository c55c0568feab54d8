"""Tests of what depends on mail: registration, resets, notices, the outbox."""
