"""openai: a model behind an endpoint that speaks OpenAI's protocol (vLLM, SGLang, llama.cpp, …).

Each completion is one request; several are under way at a time. Before every try but the first the
server is asked again which model it has: one that was gone may come back with another.
"""

import hashlib
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from evaluator.config.endpoint_config import EndpointConfig
from evaluator.config.run_config import ArmConfig, DecodingConfig
from evaluator.errors import ConfigError, ModelError
from evaluator.generation.backend import (
    Asked,
    Backend,
    Completion,
    LoadedModel,
    Made,
    ModelRequest,
)
from evaluator.generation.endpoint import Endpoint, PassingError
from evaluator.generation.openai_form import (
    PATHS,
    engine_of,
    read_answer,
    request_body,
    request_seed,
)
from evaluator.generation.prompts import Batch, Row
from evaluator.store.run_directory import ArmFacts


class OpenAIBackend(Backend):
    """Texts of a server; it gives no logits and draws its own random numbers."""

    source = "endpoint"
    by_row = True

    def describe(self, arm: ArmConfig, asked: Asked, files: object) -> ArmFacts:
        """Ask which model is served; ConfigError where it cannot be asked these prompts."""
        endpoint = _endpoint(arm)
        chat = endpoint.config.api == "chat"
        if any(not (prompt.messages if chat else prompt.token_ids) for prompt in asked.prompts):
            why = (
                "chat cannot keep out the system message that the chat template adds; use api: "
                "completions, or prompt.system: ''"
                if chat
                else "completions sends tokens, and no arm of this run has a model here whose "
                "tokenizer makes them; use api: chat"
            )
            raise ConfigError(f"arm {arm.name}: endpoint.api: {why}")
        if unsaid := _unsaid(asked.decoding, endpoint.config):
            raise ConfigError(
                f"arm {arm.name}: endpoint.extensions: false leaves out {' and '.join(unsaid)}, "
                "which the decoding sets; give what the server calls it in endpoint.extra, or "
                "leave it out of the decoding"
            )
        served = endpoint.persist(endpoint.served)
        digest = hashlib.sha256(served.encode()).hexdigest()
        return ArmFacts(arm.name, str(arm.kind), digest, None, 0, None, None, served)

    @contextmanager
    def load(self, request: ModelRequest) -> Iterator["ServedModel"]:
        """See :meth:`Backend.load`; ModelError where another model is served by now."""
        model = ServedModel(_endpoint(request.arm), request)
        try:
            yield model
        finally:
            model.endpoint.stop.set()


BACKEND = OpenAIBackend()


class ServedModel(LoadedModel):
    """A model behind an endpoint."""

    def __init__(self, endpoint: Endpoint, request: ModelRequest) -> None:
        self.endpoint, self._request = endpoint, request
        endpoint.persist(self._check_served)
        self._version = endpoint.version()
        self._named = request.engine  # how answers call the model, and more

    def complete(self, batch: Batch, drafts: object = None) -> Sequence[Completion]:
        """One request after the other."""
        return [self._complete(row) for row in batch]

    def complete_all(self, batches: Sequence[Batch], drafts: object = None) -> Iterator[Made]:
        """Complete batches, several at a time, each given as it arrives.

        After an error no further one is begun; those under way are given before it is raised.
        """
        todo: queue.SimpleQueue[Batch] = queue.SimpleQueue()
        done: queue.SimpleQueue[Made | BaseException | None] = queue.SimpleQueue()
        for batch in batches:
            todo.put(batch)

        def work() -> None:
            try:
                while not self.endpoint.stop.is_set():
                    batch, start = todo.get_nowait(), time.monotonic()
                    done.put(Made(batch, self.complete(batch), time.monotonic() - start))
            except queue.Empty:
                pass
            except BaseException as error:  # raised where the results are awaited
                done.put(error)
                self.endpoint.stop.set()
            finally:
                done.put(None)

        working = min(self.endpoint.config.concurrency, len(batches))
        for _ in range(working):  # daemons: an interrupted run does not wait for slow answers
            threading.Thread(target=work, daemon=True).start()
        failure: BaseException | None = None
        while working:
            found = done.get()
            if found is None:
                working -= 1
            elif isinstance(found, BaseException):
                failure = failure or found
            else:
                yield found
        if failure is not None:
            raise failure

    def _complete(self, row: Row) -> Completion:
        config, request = self.endpoint.config, self._request
        problem, sample = row.prompt.problem, row.sample
        seed = request_seed(request.seed, problem, sample)
        body = request_body(
            config.model, row.prompt, request.decoding, seed, config.api, config.extensions
        )

        def ask() -> Completion:
            answer = self.endpoint.send(PATHS[config.api], {**body, **config.extra})
            try:
                made = read_answer(answer)
            except ValueError as error:
                raise PassingError(f"{problem}/{sample}: {error}") from error
            # Some services say only here which version of a model is behind its name.
            if name := engine_of(answer, "model"):
                self._named = self._named or name
                if not f"{self._named}, ".startswith(f"{name}, "):
                    self._refuse(name, self._named)
            return made._replace(engine=", ".join(filter(None, (made.engine, self._version))))

        return self.endpoint.persist(ask, self._check_served)

    def _check_served(self) -> None:
        served, known = self.endpoint.served(), self._request.facts.served
        if served != known:
            self._refuse(served, known)

    def _refuse(self, now: str, before: str) -> None:
        raise ModelError(
            f"arm {self._request.arm.name}: {self.endpoint.config.base_url} now serves another "
            f"model behind this name: {now}, before {before}. Texts of two models must not mix: "
            "serve the first one again and start the same command, or choose another out"
        )


def _endpoint(arm: ArmConfig) -> Endpoint:
    assert arm.endpoint is not None  # it is the backend's source, which is checked
    return Endpoint(arm.endpoint, arm.name)


def _unsaid(decoding: DecodingConfig, endpoint: EndpointConfig) -> list[str]:
    """Fields of the decoding that change texts and that no request to the endpoint would say."""
    if endpoint.extensions:
        return []
    said, unsaid = endpoint.extra.keys(), []
    if decoding.temperature > 0 and decoding.top_k and "top_k" not in said:
        unsaid.append("top_k")
    if decoding.penalty != 1 and not {"repetition_penalty", "repeat_penalty"} & said:
        unsaid.append("repetition_penalty")
    return unsaid
