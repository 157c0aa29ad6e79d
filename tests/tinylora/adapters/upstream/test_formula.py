"""What a file proves about its formula, and nothing else."""

import pytest

from tinylora.adapters.upstream.formula import known_formula

UNPUBLISHED = "0" * 64
LUOGU = "c4f953ac153965949ea9b514ed9f1500da42e6334fe998bdb4be3fa8be11946e"


@pytest.mark.parametrize(
    ("stored", "is_quantized", "sha256", "expected"),
    [
        (None, None, UNPUBLISHED, None),
        (None, True, UNPUBLISHED, "diagonal"),
        ("full", True, UNPUBLISHED, "full"),  # written by someone who knew
        ("diagonal-unscaled", None, UNPUBLISHED, "diagonal-unscaled"),
        (None, None, LUOGU, "full"),
        (None, None, "e3c69917" + "0" * 56, "diagonal-unscaled"),
        (None, None, "c4f953ac" + "0" * 56, None),  # only the beginning is the same
    ],
)  # fmt: skip
def test_a_formula_is_known_from_a_key_or_a_published_file(stored, is_quantized, sha256, expected):
    known = known_formula(stored, is_quantized, sha256)
    assert (known and known.formula) == expected
    assert known is None or known.evidence
