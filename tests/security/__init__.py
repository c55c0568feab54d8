"""What docs/security.md states, by attack."""
