"""CLIP, which embeds text and images in one space: Radford et al. 2021, arXiv 2103.00020."""
