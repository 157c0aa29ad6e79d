"""A backend that answers from a table of texts: the whole of what another one has to be."""

import json
from contextlib import contextmanager
from pathlib import Path

from evaluator.generation.backend import Backend, Completion, LoadedModel


class Table(LoadedModel):
    def __init__(self, texts):
        self.texts = texts

    def complete(self, batch):
        texts = [self.texts[row.prompt.problem] for row in batch]
        return [Completion(text, len(text), "stop") for text in texts]


class TableBackend(Backend):
    @contextmanager
    def load(self, request):
        path = Path(request.checkpoint.directory) / "table.json"
        yield Table(json.loads(path.read_text()))


BACKEND = TableBackend()
