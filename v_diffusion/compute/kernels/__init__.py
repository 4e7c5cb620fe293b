"""What numba compiles for the processor at hand: products, Winograd's tiles, whole convolutions.

Numbers are in fp32, pictures in channels_last. What is compiled takes addresses, 64-bit integers.
"""
