"""Makes the small model that ships: emoji_64 and its CLIP. `python -m training --help`."""
