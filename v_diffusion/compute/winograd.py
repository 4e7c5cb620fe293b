"""3x3 convolutions on a CPU with 4 multiplications for 9: Winograd's F(2x2, 3x3).

The picture is cut into 2x2 tiles, each seen with its border as d, 4x4. With g the weights,

    out = A^T [(G g G^T) * (B^T d B)] A

where * multiplies the 4x4 entries, a sum over the channels each: 16 matrix products over all tiles
(Lavin and Gray 2015, arXiv 1509.09308, eq. 8; the transforms are their eq. 3). They are done in
pieces that stay in the processor's cache. It rounds about as much as the usual way, to within 1e-6
of the largest number (larger tiles would save more and round more).
"""

import torch
from torch import Tensor

# Of the four entries that a transform makes along a side, the last one comes second here.
G = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5))
MIDDLE = 10  # of the 16 entries the one that all four pixels of a tile have in them once

# Tiles of a piece: some MB with all channels.
PIECE = 256
# It pays from so many channels on, and from so many numbers in a product.
CHANNELS, NUMBERS = 128, 2**15


def pays(shape: torch.Size, weight: Tensor, spare: bool) -> bool:
    """Whether to take this way with weights [K, C, 3, 3] and pictures of a shape [B, C, H, W].

    Args:
        spare: only if the transformed weights are no larger than the pictures.
    """
    b, _, h, w = shape
    k = len(weight)
    if weight.shape[2:] != (3, 3) or h % 2 or w % 2 or (spare and 16 * k > b * h * w):
        return False
    channels = min(weight.shape[:2])
    return channels >= CHANNELS and b * (h // 2) * (w // 2) * channels >= NUMBERS


def rows_at_once(shape: torch.Size) -> int:
    """How many rows of tiles make a piece: the most that divide all evenly."""
    b, _, h, w = shape
    most = max(1, PIECE // (b * w // 2))
    return max(n for n in range(1, min(most, h // 2) + 1) if h // 2 % n == 0)


def pack(weight: Tensor, shape: torch.Size) -> Tensor:
    """G g G^T of weights [K, C, 3, 3], packed for `convolve` with pictures of a shape."""
    k, c = weight.shape[:2]
    g = weight.new_tensor(G)
    # Columns come before rows here, as in the pieces below.
    transformed = torch.einsum("ja,ib,kcba->jikc", g, g, weight).reshape(16 * k, c, 1, 1)
    tiles = shape[0] * rows_at_once(shape) * shape[3] // 2
    packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
        transformed, [0, 0], [1, 1], [1, 1], 16, [1, 16 * c, tiles, 1]
    )
    return packed


def multiply(pieces: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """The 16 products: [N, 16 C] to [N, 16 K], as a 1x1 convolution of 16 groups."""
    x = pieces[None, :, None].permute(0, 3, 1, 2)
    out: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, packed, bias, [0, 0], [1, 1], [1, 1], 16, "none", [], ""
    )
    return out.permute(0, 2, 3, 1)[0, :, 0]


def convolve(x: Tensor, packed: Tensor, bias: Tensor | None, k: int) -> Tensor:
    """The convolution of padding 1.

    Args:
        x: [B, C, H, W] in channels_last.
        packed: of `pack`, for x's shape.
        bias: [k] or None.
        k: the channels of what is returned, [B, k, H, W] in channels_last.
    """
    b, c, h, w = x.shape
    rows, columns = rows_at_once(x.shape), w // 2
    x = x.permute(0, 2, 3, 1)
    out = x.new_empty(b, h, w, k)
    if bias is not None:
        in_middle = bias.new_zeros(16, k)
        in_middle[MIDDLE] = bias
        bias = in_middle.view(-1)
    # A piece with its border, which stays 0 beyond the picture; its rows transformed; and all.
    piece = x.new_zeros(b, 2 * rows + 2, w + 2, c)
    half = x.new_empty(b, rows, w + 2, 4, c)
    both = x.new_empty(b, rows, columns, 4, 4, c)
    # Of the four rows of each tile, d_0 to d_3, B^T d has d_0 - d_2, d_1 - d_3, d_1 + d_2 and
    # d_2 - d_1.
    d_1, d_2 = piece[:, 1:-1:2], piece[:, 2::2]
    d_01, d_23 = (torch.unflatten(piece[:, i : i + 2 * rows], 1, (rows, 2)) for i in (0, 2))
    row_01, row_2, row_3 = half[:, :, :, :2].transpose(2, 3), half[:, :, :, 2], half[:, :, :, 3]
    e_1, e_2 = half[:, :, 1:-1:2], half[:, :, 2::2]
    e_01, e_23 = (torch.unflatten(half[:, :, i : i + w], 2, (columns, 2)) for i in (0, 2))
    column_01, column_2, column_3 = both[:, :, :, :2], both[:, :, :, 2], both[:, :, :, 3]
    for first in range(0, h, 2 * rows):
        after = first + 2 * rows
        low, high = max(first - 1, 0), min(after + 1, h)
        piece[:, low - first + 1 : high - first + 1, 1:-1] = x[:, low:high]
        if after == h:
            piece[:, -1] = 0
        torch.sub(d_01, d_23, out=row_01)
        torch.add(d_1, d_2, out=row_2)
        torch.sub(d_2, d_1, out=row_3)
        torch.sub(e_01, e_23, out=column_01)
        torch.add(e_1, e_2, out=column_2)
        torch.sub(e_2, e_1, out=column_3)
        m = multiply(both.view(-1, 16 * c), packed, bias).view(b, rows, columns, 4, 4, k)
        m_0, m_3, m_1, m_2 = m.unbind(3)
        m_0.add_(m_1).add_(m_2)
        m_1.sub_(m_2)
        torch.sub(m_1, m_3, out=m_3)
        tiles = out[:, first:after].view(b, rows, 2, columns, 2, k)
        y_0, y_3, y_1, y_2 = m[:, :, :, :2].unbind(4)
        torch.add(y_0.add_(y_1), y_2, out=tiles[:, :, 0])
        torch.sub(y_1.sub_(y_2), y_3, out=tiles[:, :, 1])
    return out.permute(0, 3, 1, 2)
