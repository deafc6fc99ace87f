"""What a test run consists of: the builds, the test programs, the fuzzers, and what each needs.

Five builds, each in its own folder under build-test/:
  gcc    the release, as users build it: unit tests, and all Python tests run this one
  clang  the release by the other compiler: unit tests
  asan   AddressSanitizer and UndefinedBehaviorSanitizer: unit tests, and the Python tests marked `smoke`
  tsan   ThreadSanitizer: the unit tests of THREADED, and the server under mixed load
  fuzz   clang's libFuzzer with ASan and UBSan: every fuzzer
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys

import checks
import emulator
import oracles
from gpu_kernels import find_compiler  # tools/, which checks.py has put on the path
from stages import Counts, Stage, count_junit

TOP = pathlib.Path(__file__).resolve().parents[2]
OUT = TOP / "build-test"
KERNEL_CACHE = OUT / "gpu-kernels"  # the GPU's code objects: compiled by a stage of their own, taken by all builds
THREADED = ("base", "log", "trace", "pool", "file", "disk", "exec", "engine", "sched", "serving", "api", "context_store", "context_index", "context_threads")  # those of them that exist
LONGEST = {"test_tokenizer": 240, "test_logits": 200, "test_golden_text": 90, "test_http_life": 90}  # guesses in seconds, for a first run's order
LONG_UNITS = {"asan": ("exec", "tokenizer", "sched_text"), "tsan": ("exec",)}  # stages of their own
FUZZ_SECONDS = {False: 20, True: 600}  # short, --long
SANITIZE = ["-Doptimization=1", "-Ddebug=true", "-Dwerror=false", "-Db_lundef=false"]
CLANG = {"CC": "clang", "CXX": "clang++"}
ALL_GPUS, SOME_GPUS, NO_GPU = "-Dgpu_targets=all", "-Dgpu_targets=gfx90a,gfx942,gfx1100,gfx1201,sm_80", "-Dgpu_targets=none"
BUILDS = {
    "gcc": ({}, ["--buildtype=release", "-Dtests=true", "-Dbench=true", ALL_GPUS]),
    "clang": (CLANG, ["--buildtype=release", "-Dtests=true", ALL_GPUS]),
    "asan": ({}, [*SANITIZE, SOME_GPUS, "-Dtests=true", "-Db_sanitize=address,undefined", "-Dc_args=-fno-sanitize-recover=all",
                  "-Dcpp_args=-fno-sanitize-recover=all"]),
    "tsan": ({}, [*SANITIZE, SOME_GPUS, "-Dtests=true", "-Db_sanitize=thread"]),
    "fuzz": (CLANG, [*SANITIZE, NO_GPU, "-Dfuzz=true", "-Db_sanitize=address,undefined", "-Dc_args=-fno-sanitize-recover=all"]),
}
SANITIZER_ENV = {
    "asan": {"ASAN_OPTIONS": "detect_stack_use_after_return=1:allocator_may_return_null=1", "UBSAN_OPTIONS": "print_stacktrace=1",
             "RF_SANITIZER": "asan"},
    "tsan": {"TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1", "RF_SANITIZER": "tsan"},
}


def stages(env, long):
    """Every stage of a run. `env` is what tests read; the oracle stage adds to it."""
    jobs = max(1, (os.cpu_count() or 2) // 2)  # two lanes share the machine
    plan = [Stage("set-up oracles", lambda log: set_up_oracles(log, env), seconds=30),
            Stage("checks", lambda log: checks.run(log, TOP, OUT), seconds=30),
            Stage("gpu kernels", gpu_kernels, seconds=300),
            Stage("gpu static", gpu_static, ("gpu kernels",), 20)]
    for name in BUILDS:
        plan.append(Stage(f"build {name}", lambda log, n=name: build(log, n, jobs), () if name == "fuzz" else ("gpu kernels",), 90))
        apart = LONG_UNITS.get(name, ())
        for only in apart:
            plan.append(Stage(f"unit {name} {only}", lambda log, n=name, o=only: unit_tests(log, n, env, {o}.__contains__), (f"build {name}",), 100))
        if name != "fuzz":
            plan.append(Stage(f"unit {name}", lambda log, n=name, a=apart: unit_tests(log, n, env, lambda t: t not in a), (f"build {name}",)))
    for path in sorted(p for room in ("cli", "server", "oracle", "gpu") for p in TOP.glob(f"tests/{room}/test_*.py")):
        plan.append(Stage(f"{path.parent.name}/{path.stem}", lambda log, p=path: python_tests(log, p, env, "gcc"),
                          ("build gcc", "set-up oracles"), LONGEST.get(path.stem, 30)))
    for arch in emulator.ARCHS:
        plan.append(Stage(f"gpu emulator {arch}", lambda log, a=arch: emulator.run(log, OUT / "gcc", env, a, long), ("build gcc",), 150))
    for room in ("cli", "server"):
        plan.append(Stage(f"{room} asan", lambda log, r=room: python_tests(log, TOP / "tests" / r, env, "asan", "-m", "smoke"),
                          ("build asan", "set-up oracles")))
    plan.append(Stage("server tsan", lambda log: python_tests(log, TOP / "tests" / "server", env, "tsan", "-m", "smoke", "-k", "soak or briefly"),
                      ("build tsan", "set-up oracles"), 120))
    for path in sorted(TOP.glob("fuzz/fuzz_*.c")):
        plan.append(Stage(f"fuzz {path.stem[5:]}", lambda log, n=path.stem: fuzz(log, n, FUZZ_SECONDS[long]), ("build fuzz",)))
    return plan


def set_up_oracles(log, env):
    env.update(oracles.get(env["RF_CACHE"], log.call))
    return Counts()


def gpu_kernels(log):
    """Every kernel for every target, a warning being an error, into the cache that the builds share."""
    counts = Counts()
    if not find_compiler():
        counts.skip("gpu kernels", "no clang >= 20 can be had: the builds are without GPU code")
        return counts
    status = log.call([sys.executable, TOP / "tools/gpu_kernels.py", "build", "all", "--cache", KERNEL_CACHE, "--werror"])
    counts.ok("gpu kernels", status == 0, log.tail(6))
    return counts


def gpu_static(log):
    """No kernel has become worse than the kept table (tests/gpu/static.json): registers, spills, loads, instructions."""
    status = log.call([sys.executable, TOP / "tools/gpu_static.py", "--cache", KERNEL_CACHE])
    counts = Counts()
    if status == 77:
        counts.skip("gpu static", log.tail(1))
    else:
        counts.ok("gpu static", status == 0, log.tail(20))
    return counts


def build(log, name, jobs):
    """Configures once, then builds; counts as one test."""
    where = OUT / name
    env, options = BUILDS[name]
    env = {**env, "ROCMFORGE_KERNEL_CACHE": str(KERNEL_CACHE)}
    stamp = where / "options"
    wanted = json.dumps([env, options])
    if not (stamp.exists() and stamp.read_text() == wanted):
        shutil.rmtree(where, ignore_errors=True)
    status = 0
    if not stamp.exists():
        status = log.call(["meson", "setup", where, TOP, *options], env)
        if not status:
            stamp.write_text(wanted)
    status = status or log.call(["ninja", "-C", where, "-j", jobs], env)
    counts = Counts()
    counts.ok(f"build {name}", status == 0, f"exit status {status}")
    return counts


def unit_tests(log, name, env, wanted):
    """Runs the C test programs that are wanted; cmocka writes JUnit XML, and a program that ends without it has failed."""
    where = OUT / name
    listed = json.loads(subprocess.run(["meson", "introspect", "--tests", where], check=True, capture_output=True).stdout)
    counts = Counts()
    for test in sorted(listed, key=lambda t: t["name"]):
        if not wanted(test["name"]) or (name == "tsan" and test["name"] not in THREADED):
            continue
        report = where / f"unit-{test['name']}.xml"
        report.unlink(missing_ok=True)
        full = {**env, "RF_BUILD": str(where), **SANITIZER_ENV.get(name, {}), **test["env"], "CMOCKA_MESSAGE_OUTPUT": "XML",
                "CMOCKA_XML_FILE": str(report)}
        status = log.call([*fixed_addresses(name), *test["cmd"]], full, cwd=TOP)
        counts.add(unit_counts(f"{name}/{test['name']}", report, status))
    return counts


def unit_counts(name, report, status):
    counts = Counts()
    if report.exists() and report.stat().st_size:
        counts = count_junit(report, f"{name}.")
    if status == 77 and not counts.failed and not counts.passed:
        counts.skip(name, "the program says that it cannot run here")
    elif status and not counts.failed:
        counts.ok(name, False, f"ended with status {status}")
    elif not status and not (counts.passed + counts.failed + counts.skipped):
        counts.ok(name, True)  # a program without cmocka: its exit status is the one result
    return counts


def fixed_addresses(name):
    """ThreadSanitizer of gcc 12 and clang 14 needs less address randomisation than new kernels use."""
    setarch = ["setarch", "-R"]
    if name == "tsan" and subprocess.run([*setarch, "true"], capture_output=True).returncode == 0:
        return setarch
    return []


def python_tests(log, path, env, build_name, *options):
    report = OUT / f"pytest-{build_name}-{path.parent.name}-{path.stem}.xml"
    report.unlink(missing_ok=True)
    full = {**env, "RF_BUILD": str(OUT / build_name), **SANITIZER_ENV.get(build_name, {})}
    status = log.call([sys.executable, "-m", "pytest", "-q", "-rs", f"--junitxml={report}", *options, path], full, cwd=TOP)
    counts = count_junit(report, f"{path.stem}.") if report.exists() else Counts()
    if status not in (0, 5) and not counts.failed:  # 5: no test in it
        counts.ok(path.stem, False, f"pytest ended with status {status}")
    return counts


def fuzz(log, name, seconds):
    """One fuzzer for a fixed time, from its kept inputs; what it finds new stays in build-test/corpus."""
    corpus = OUT / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    seeds = [TOP / "fuzz" / "seeds" / name[5:]]
    command = [OUT / "fuzz" / "fuzz" / name, f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048", "-close_fd_mask=1",
               "-print_final_stats=1", f"-artifact_prefix={OUT}/crash-{name}-", corpus, *[s for s in seeds if s.is_dir()]]
    status = log.call(command, {**SANITIZER_ENV["asan"]})
    counts = Counts()
    counts.ok(f"fuzz {name[5:]}", status == 0, f"status {status}: the input is build-test/crash-{name}-*")
    return counts
