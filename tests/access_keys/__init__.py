"""Access keys for scripts."""
