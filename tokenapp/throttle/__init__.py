"""Limits on guessing: a lockout per account and a rate limit per client address."""
