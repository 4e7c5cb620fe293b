"""Models, targets and sampling."""
