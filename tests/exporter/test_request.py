"""The words of a request."""

import pytest

from exporter.errors import RequestError
from exporter.request import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("123", 123), ("2GB", 2 * 10**9), ("1.5KiB", 1536), ("3 mb", 3_000_000), ("1TiB", 2**40)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "5XB", "-", "five", "1e999"])
def test_bad_sizes(text):
    with pytest.raises(RequestError):
        parse_size(text)
