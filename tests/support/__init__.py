"""What the tests share: clients, servers, applications."""
