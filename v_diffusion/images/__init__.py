"""Image files: names, reading, metadata, writing."""
