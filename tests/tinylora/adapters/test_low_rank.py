import pytest
import torch

from tinylora import LowRankDelta


@pytest.mark.parametrize("shape", [(11008, 2048), (130, 70000), (3, 5)])
@pytest.mark.parametrize("rounding", [None, torch.bfloat16])
def test_pieces_are_the_dense_delta_bit_for_bit(shape, rounding):
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(side, 2, generator=generator) * 1e-3 for side in shape)
    delta = LowRankDelta(left, right.T.contiguous(), rounding)
    dense, covered = delta.dense(), 0
    for rows, piece in delta.pieces():
        assert rows.start == covered
        assert torch.equal(piece, dense[rows])
        assert piece.numel() <= max(2 << 18, 128 * shape[1])
        covered = rows.stop
    assert covered == shape[0]
