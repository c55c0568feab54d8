"""Other applications in the process of the service."""
