"""Stages of a test run: what each is, how it is counted, and the lanes that run them.

A stage is one job with a log of its own: a build, one test program family, one pytest file, a fuzzer. It may need other
stages. Stages run in lanes (threads that wait for child processes), longest first as of the last run; a stage that
needs a failed one is not run and counts as failed. Nothing here knows what the stages do: that is plan.py.
"""
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable


@dataclasses.dataclass
class Counts:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    failures: list = dataclasses.field(default_factory=list)  # names, with a first line of why
    reasons: list = dataclasses.field(default_factory=list)  # why things were skipped

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.failures += other.failures
        self.reasons += other.reasons

    def ok(self, name, passed, why=""):
        if passed:
            self.passed += 1
        else:
            self.failed += 1
            self.failures.append(f"{name}: {why}" if why else name)

    def skip(self, name, why):
        self.skipped += 1
        self.reasons.append(f"{name}: {why}" if name else why)

    def __str__(self):
        parts = [f"{self.passed} passed"]
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{self.skipped} skipped"] if self.skipped else []
        return ", ".join(parts)


@dataclasses.dataclass
class Stage:
    name: str
    run: Callable  # run(log) -> Counts
    needs: tuple = ()
    seconds: float = 60.0  # a guess at its time, until a run has measured it


class Log:
    """One stage's log file, and the way it starts child processes: in a group of their own, ended when time is up."""

    def __init__(self, path, limit):
        self.path = path
        self.deadline = time.monotonic() + limit
        self.file = open(path, "wb")

    def call(self, command, env=None, cwd=None):
        """Runs a command; its output goes to the log. Returns its exit status, negative for a signal, 124 when cut off."""
        self.file.write(("$ " + " ".join(map(str, command)) + "\n").encode())
        self.file.flush()
        full = dict(os.environ, **(env or {}))
        child = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=self.file, stderr=subprocess.STDOUT,
                                 env=full, cwd=cwd, start_new_session=True)
        try:
            return child.wait(timeout=max(1.0, self.deadline - time.monotonic()))
        except BaseException as stop:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            if isinstance(stop, subprocess.TimeoutExpired):
                self.file.write(b"\ncut off: out of time\n")
                return 124
            raise

    def tail(self, n_lines=40):
        """Its last lines, less the commands."""
        self.file.flush()
        lines = pathlib.Path(self.path).read_text(errors="replace").splitlines()
        return "\n".join([line for line in lines if not line.startswith("$ ")][-n_lines:])


def count_junit(path, prefix=""):
    """Counts a JUnit XML file, as pytest and cmocka write it."""
    counts = Counts()
    for case in ElementTree.parse(path).iter("testcase"):
        name = prefix + case.get("name", "?")
        bad = case.find("failure")
        bad = case.find("error") if bad is None else bad
        skipped = case.find("skipped")
        if bad is not None:
            text = (bad.get("message") or bad.text or "").strip()
            counts.ok(name, False, "".join(c if c.isprintable() else " " for c in text[:160]))
        elif skipped is not None:
            counts.skip("" if skipped.get("message") else name, skipped.get("message") or "skipped by the test")
        else:
            counts.ok(name, True)
    return counts


class Run:
    """Runs stages in lanes and prints one line for each as it ends."""

    def __init__(self, stages, out_dir, n_lanes, limit):
        self.waiting = list(stages)
        self.done = {}  # name -> Counts; guarded by lock, as is all that follows
        self.running = set()
        self.lock = threading.Condition()
        self.n_lanes = n_lanes
        self.limit = limit
        self.logs = out_dir / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.times_file = out_dir / "times.json"
        self.times = json.loads(self.times_file.read_text()) if self.times_file.exists() else {}
        self.began = time.monotonic()
        self.stop = False

    def take(self):
        """The longest stage that is free to run, None when all are done or running and nothing more will come free."""
        with self.lock:
            while not self.stop and self.waiting:
                for stage in [s for s in self.waiting if any(self.done[n].failed for n in s.needs if n in self.done)]:
                    self.waiting.remove(stage)
                    counts = Counts()
                    counts.ok(stage.name, False, "not run: what it needs has failed")
                    self.finish(stage, counts, 0.0, "")
                free = [s for s in self.waiting if all(n in self.done for n in s.needs)]
                if free:
                    stage = max(free, key=self.urgency)
                    self.waiting.remove(stage)
                    self.running.add(stage.name)
                    return stage
                if self.waiting:
                    self.lock.wait()
            return None

    def urgency(self, stage):
        """A stage's own time and that of the longest chain waiting for it."""
        after = [self.urgency(s) for s in self.waiting if stage.name in s.needs]
        return self.times.get(stage.name, stage.seconds) + max(after, default=0.0)

    def finish(self, stage, counts, seconds, tail):
        self.done[stage.name] = counts
        word = "FAIL" if counts.failed else "ok  " if counts.passed or not counts.skipped else "skip"
        print(f"[{time.monotonic() - self.began:5.0f} s] {word} {stage.name:32} {counts}  ({seconds:.0f} s)", flush=True)
        if counts.failed and tail:
            print("\n".join("    | " + line for line in tail.splitlines()), flush=True)

    def lane(self):
        while stage := self.take():
            log = Log(self.logs / (stage.name.replace("/", "-").replace(" ", "-") + ".log"), self.limit)
            start = time.monotonic()
            try:
                counts = stage.run(log)
            except Exception as problem:  # a broken stage is a failed one; the others go on
                counts = Counts()
                counts.ok(stage.name, False, f"{type(problem).__name__}: {problem}")
            seconds = time.monotonic() - start
            with self.lock:
                self.running.discard(stage.name)
                self.times[stage.name] = round(seconds, 1)
                self.finish(stage, counts, seconds, log.tail())
                self.lock.notify_all()

    def all(self):
        """Runs everything; returns the sum."""
        lanes = [threading.Thread(target=self.lane) for _ in range(self.n_lanes)]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
        self.times_file.write_text(json.dumps(self.times, indent=1, sort_keys=True))
        total = Counts()
        for counts in self.done.values():
            total.add(counts)
        return total
