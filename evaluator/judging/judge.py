"""Judging programs on all cores, results as they finish."""

import logging
import os
import queue
import resource
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from evaluator.config.judge_settings import JudgeSettings
from evaluator.errors import ConfigError, SandboxError
from evaluator.judging.compare_output import compare_output
from evaluator.judging.compile_cpp import compile_cpp
from evaluator.judging.cpp_text import strip_freopen
from evaluator.judging.run_test import CompiledProgram, run_test
from evaluator.judging.sandbox.sandbox import Sandbox
from evaluator.judging.sandbox.worker import SandboxWorker
from evaluator.judging.shared_machine import SharedMachine
from evaluator.judging.special_judge import SpecialJudges
from evaluator.judging.verdicts import Decision, ProgramVerdict, program_verdict
from evaluator.store.records import TestRecord
from evaluator.suites.problem import Checker, Problem

logger = logging.getLogger(__name__)

Judged = tuple[tuple[str, ...], ProgramVerdict]
_Made = TypeVar("_Made")

_FILES_OF_A_WORKER = 16  # at most 12 were seen, with a special judge


@dataclass(frozen=True)
class JudgeJob:
    """One program to judge: C++ source, or the reason why there is none; the key comes back."""

    key: tuple[str, ...]
    problem: Problem
    code: str | None
    no_code_reason: str | None = None


def judge_jobs(
    jobs: Iterable[JudgeJob], settings: JudgeSettings, sandbox: Sandbox
) -> Generator[Judged, None, None]:
    """Judge programs in parallel; yields (key, verdict) as they finish, in no fixed order.

    Jobs are taken as workers get free. Closing the iterator ends everything that still runs.
    A ConfigError where not even an empty program compiles with these settings.
    """
    pool = _Pool(settings, sandbox)
    try:
        pool.check_compiler()
        yield from pool.judge(jobs)
    finally:
        pool.close()


def _most_workers() -> int:
    """How many have room for their open files."""
    free = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - len([*Path("/proc/self/fd").iterdir()])
    return max(1, free // _FILES_OF_A_WORKER)


class _Pool:
    """The workers of one :func:`judge_jobs` call."""

    def __init__(self, settings: JudgeSettings, sandbox: Sandbox) -> None:
        self._settings = settings
        self._size = min(settings.workers or len(os.sched_getaffinity(0)), _most_workers())
        self._machine = SharedMachine()
        self._special_judges = SpecialJudges(settings, self._machine)
        self._stop = threading.Event()
        self._workers = [sandbox.worker() for _ in range(self._size)]
        self._idle: queue.SimpleQueue[SandboxWorker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(self._size, thread_name_prefix="judge")

    def close(self) -> None:
        """End everything that still runs."""
        self._stop.set()
        for worker in self._workers:
            worker.abort()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            worker.close()

    def check_compiler(self) -> None:
        """Find a wrong flag before it fails every program; the usual ones are right."""
        names = ("standard", "compile_flags", "link_flags")
        asked = {name: getattr(self._settings, name) for name in names}
        if all(getattr(JudgeSettings(), name) == value for name, value in asked.items()):
            return
        made = compile_cpp(self._workers[0], "int main() {}\n", self._settings)
        if made.program is None and not made.says_nothing:
            shown = ", ".join(f"{name} {value!r}" for name, value in asked.items())
            raise ConfigError(
                f"judge: with {shown} not even an empty program compiles; g++ says: {made.message}"
            )

    def judge(self, jobs: Iterable[JudgeJob]) -> Iterator[Judged]:
        """Keep the workers busy; yields verdicts as they are there."""
        waiting: dict[Future[ProgramVerdict], tuple[str, ...]] = {}
        for job in jobs:
            if job.code is None:
                detail = f"no code was found ({job.no_code_reason or 'no reason given'})"
                yield job.key, ProgramVerdict("CE", detail=detail)
                continue
            waiting[self._threads.submit(self._judge, job.problem, job.code)] = job.key
            while len(waiting) >= 2 * self._size:
                yield from _finished(waiting)
        while waiting:
            yield from _finished(waiting)

    def _judge(self, problem: Problem, code: str) -> ProgramVerdict:
        worker = self._idle.get()
        try:
            return self._compile_and_run(worker, problem, code)
        finally:
            self._idle.put(worker)

    def _compile_and_run(
        self, worker: SandboxWorker, problem: Problem, code: str
    ) -> ProgramVerdict:
        """Compile, then run all tests; trouble of the sandbox is tried twice and then UKE."""
        settings = self._settings
        source = strip_freopen(code) if settings.strip_freopen else code
        attempt = partial(compile_cpp, worker, source, settings)
        # a disturbed compiler gets one more try, alone, which counts: a source may feign it
        compiling = partial(self._machine.run, attempt, lambda made: made.disturbed)
        try:
            compiled = self._twice(problem, "compilation", compiling)
            if compiled.program is None:
                message = compiled.message
                return ProgramVerdict("CE", detail="does not compile", compile_message=message)
            decide = self._twice(problem, "checker", lambda: self._decider(worker, problem))
        except SandboxError as error:
            return ProgramVerdict("UKE", detail=str(error))
        built = CompiledProgram(compiled.program, problem, decide, settings, self._machine, worker)
        tests: list[TestRecord] = []
        for test in problem.tests:
            decides = all(done.verdict in ("AC", "UKE") for done in tests)
            running = partial(run_test, built, test, decides=decides)
            try:
                tests.append(self._twice(problem, f"test {test.name!r}", running))
            except SandboxError as error:
                tests.append(TestRecord(test.name, "UKE", 0.0, 0, 0, detail=str(error)))
        compiled.program.close()
        return program_verdict(problem, tests, compiled.message)

    def _decider(
        self, worker: SandboxWorker, problem: Problem
    ) -> Callable[[bytes, bytes, bytes], Decision]:
        """What decides about the outputs of a problem: its special judge, or a comparison."""
        if problem.checker.source is None:
            return partial(_compare, problem.checker)
        checker = self._special_judges.compiled(worker, problem.checker.source)
        return partial(self._special_judges.check, worker, checker)

    def _twice(self, problem: Problem, what: str, attempt: Callable[[], _Made]) -> _Made:
        """Do something, once more where the sandbox fails; one by :meth:`close` is no news."""
        try:
            return attempt()
        except SandboxError as error:
            if not self._stop.is_set():
                logger.warning("problem %s, %s: %s; once more", problem.id, what, error)
            return attempt()


def _finished(waiting: dict[Future[ProgramVerdict], tuple[str, ...]]) -> Iterator[Judged]:
    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
        yield waiting.pop(future), future.result()


def _compare(checker: Checker, _: bytes, output: bytes, answer: bytes) -> Decision:
    difference = compare_output(checker, output, answer)
    return Decision("AC", 1.0, "") if difference is None else Decision("WA", 0.0, difference)
