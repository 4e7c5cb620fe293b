"""What makes a processor fast, for the diffusion models and for CLIP alike."""
