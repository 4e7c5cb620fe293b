"""What meets a terminal, a path or an address."""
