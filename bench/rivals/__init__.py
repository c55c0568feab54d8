"""The programs that this service is measured beside."""
