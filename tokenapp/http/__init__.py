"""What every request has in common."""
