"""The container image, which takes minutes to build: make container."""
