"""Tests of accounts: names, addresses and their changes."""
