"""What the package offers."""

import pytest

import tinylora


def test_every_public_name_is_there():
    assert sorted({*tinylora._HOME_OF, "TinyLoRAError"}) == tinylora.__all__
    for name in tinylora.__all__:
        assert getattr(tinylora, name).__name__ == name
    assert set(tinylora.__all__) <= set(dir(tinylora))
    with pytest.raises(AttributeError, match="no attribute 'restores'"):
        tinylora.restores  # noqa: B018
