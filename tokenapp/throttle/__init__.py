"""Throttling of guesses: a lockout per account and a rate limit per client address."""
