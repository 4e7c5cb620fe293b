"""A GPU proven in one command: `python -m benchmark cuda` (`program`)."""
