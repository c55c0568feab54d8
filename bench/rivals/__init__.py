"""Programs that this service is compared with."""
