"""CLIP (Radford et al. 2021, arXiv 2103.00020): text and images to one space of embeddings."""
