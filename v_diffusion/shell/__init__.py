"""The edge of the programs: terminals, paths, addresses, files read and written."""
