"""Requests to an endpoint of OpenAI's protocol, tried again where they fail for a passing reason.

The key comes from the environment and stands in nothing but the header of a request.
"""

import http.client
import json
import logging
import os
import random
import re
import threading
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from evaluator.config.endpoint_config import EndpointConfig
from evaluator.errors import ConfigError, ModelError

_log = logging.getLogger(__name__)

_PASSING, _NOT_PASSING = (408, 425, 429), (501, 505)  # of other errors, those of the server pass
_LONGEST_BACKOFF_S, _LONGEST_WAIT_S = 60.0, 3600.0
_MOST_BYTES = 64 << 20  # of an answer
_SHORT_TIMEOUT_S = 10.0  # of what a server answers at once
# Of an entry of /models, what tells one model from another; the rest is made anew at every start.
_IDENTIFYING = ("root", "parent", "owned_by", "meta")

_SECONDS = re.compile(r"\d+$", re.ASCII)

_Answer = TypeVar("_Answer")


class PassingError(Exception):
    """A request failed in a way that may pass; ``wait_s`` is what the server asks for."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class _NotThereError(ModelError):
    """The server has nothing at this path."""


class Endpoint:
    """One arm's endpoint, for any number of threads; ``stop`` ends their waits."""

    def __init__(self, config: EndpointConfig, arm: str) -> None:
        self.config = config
        self.stop = threading.Event()
        self._where = f"arm {arm}: {config.base_url}"
        self._key = _key(config, arm)
        local = urlsplit(config.base_url).hostname in ("localhost", "127.0.0.1", "::1")
        # No proxy stands between a machine and itself, whatever the environment says of others.
        self._opener = build_opener(_NoRedirects, *([ProxyHandler({})] if local else []))
        self._random = random.Random()

    def served(self) -> str:
        """What the endpoint says of the model behind its name; one try, as :meth:`send`."""
        name = self.config.model
        try:
            found = self.send("/models")
        except _NotThereError:
            found = None
        cards = found.get("data") if isinstance(found, dict) else None
        for card in cards if isinstance(cards, list) else ():
            if isinstance(card, dict) and card.get("id") == name:
                said = [f"{key} {_plain(card[key])}" for key in _IDENTIFYING if card.get(key)]
                return f"{name} ({', '.join(said)})" if said else name
        return f"{name} (not listed)"  # some servers take any name, or load what they are asked for

    def version(self) -> str:
        """Version of the server, where it has ``/version``; else empty."""
        try:
            found = self.send("/version", base_url=self.config.base_url.removesuffix("/v1"))
        except (PassingError, ModelError):
            return ""
        version = found.get("version") if isinstance(found, dict) else None
        return f"version {_plain(version):.100}" if isinstance(version, str) else ""

    def persist(
        self, ask: Callable[[], _Answer], before_again: Callable[[], object] = lambda: None
    ) -> _Answer:
        """What ``ask`` returns, tried again after each PassingError, with longer and longer waits.

        Waits are random between half and all of the backoff, and at least the seconds that
        Retry-After says. ModelError when no try is left.
        """
        for tries in range(self.config.retries + 1):
            try:
                if tries:
                    before_again()
                return ask()
            except PassingError as error:
                last = error
            if tries < self.config.retries:
                self._wait(self.config.backoff_s * 2.0**tries, last)
        raise ModelError(
            f"{self._where}: {self.config.retries + 1} tries failed, the last with {last}. What "
            "came before is kept: see to the server, and start the same command again"
        )

    def send(
        self, path: str, fields: dict[str, Any] | None = None, base_url: str | None = None
    ) -> Any:
        """One try: POST of some fields, or GET without. PassingError, or ModelError for good."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data, timeout_s = None, self.config.timeout_s
        if fields is None:
            timeout_s = min(timeout_s, _SHORT_TIMEOUT_S)
        else:
            data = json.dumps(fields).encode()
        request = Request((base_url or self.config.base_url) + path, data, headers)
        try:
            with self._opener.open(request, timeout=timeout_s) as answer:
                return json.loads(answer.read(_MOST_BYTES))
        except HTTPError as error:
            with error:
                said = self._words(f"{path}: HTTP {error.code}: {_body(error)}")
            if error.code in _PASSING or (error.code >= 500 and error.code not in _NOT_PASSING):
                wait = error.headers.get("Retry-After", "").strip()
                raise PassingError(said, float(wait[:10]) if _SECONDS.match(wait) else 0) from None
            kind = _NotThereError if error.code in (404, 405) else ModelError
            raise kind(f"{self._where}{said}. {_remedy(error.code)}") from None
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            said = self._words(f"{path}: {type(error).__name__}: {error}")
            raise PassingError(said) from None

    def _wait(self, backoff_s: float, error: PassingError) -> None:
        backoff = min(backoff_s, _LONGEST_BACKOFF_S) * self._random.uniform(0.5, 1)
        wait = max(backoff, error.wait_s)
        if wait > _LONGEST_WAIT_S:
            raise ModelError(
                f"{self._where}: asks to come back in {wait:.0f} s ({error}). What came before is "
                "kept: start the same command again then"
            )
        _log.info("%s: %s; again in %.1f s", self._where, error, wait)
        if self.stop.wait(wait):
            raise ModelError(f"{self._where}: stopped")

    def _words(self, text: str) -> str:
        """What a server made someone say: short, in one line, without the key."""
        text = text.replace(self._key, "…") if self._key else text
        return "".join(c if c.isprintable() else " " for c in text)[:500]


class _NoRedirects(HTTPRedirectHandler):
    """A redirect would take the key to another address."""

    def redirect_request(self, *_: Any) -> None:
        """No new request: the answer becomes an error."""


def _key(config: EndpointConfig, arm: str) -> str:
    if config.api_key_env is None:
        return ""
    key = os.environ.get(config.api_key_env, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise ConfigError(
            f"arm {arm}: endpoint.api_key_env: the environment variable {config.api_key_env} holds "
            f"{'what cannot be a key' if key else 'no key'}; set it"
        )
    return key


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text.encode(errors="replace").decode()  # halves of characters cannot be written down


def _body(error: HTTPError) -> str:
    try:
        return error.read(4000).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return ""


def _remedy(code: int) -> str:
    if code in (401, 403):
        return "Name the variable that holds the right key in endpoint.api_key_env"
    if code in (404, 405):
        return "See to endpoint.base_url (with /v1), endpoint.model and endpoint.api"
    if 300 <= code < 400:
        return "Give the address that it points to in endpoint.base_url"
    return (
        "A server that takes OpenAI's own fields only needs endpoint.extensions: false, which "
        "leaves out top_k, min_p and repetition_penalty"
    )
