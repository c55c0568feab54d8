"""Tests: the real database, real HTTP, and for races real processes."""
