"""Runs the whole suite; ./runtests has set up packages, the Python environment and the model, and calls this."""
import argparse
import collections
import os
import sys
import time

import plan
from stages import Run

LANES = 2
LIMIT = {False: 1500.0, True: 6 * 3600.0}  # seconds of wall time for one stage: short, --long


def arguments():
    parser = argparse.ArgumentParser(prog="runtests", description="Sets up what the tests need and runs them all.")
    parser.add_argument("--long", action="store_true", help="the full counts of docs/testing.md")
    parser.add_argument("--only", metavar="PATTERN", help="only stages whose name holds PATTERN, and what they need")
    parser.add_argument("--list", action="store_true", help="print the stages and run none")
    return parser.parse_args()


def chosen(stages, pattern):
    by_name = {s.name: s for s in stages}
    wanted = [s for s in stages if pattern in s.name]
    for stage in wanted:
        wanted += [by_name[n] for n in stage.needs if by_name[n] not in wanted]
    return wanted


def summary(total):
    if total.failures:
        print("failed:")
        for line in total.failures:
            print(f"  {line}")
    if total.reasons:
        print("skipped:")
        for reason, n in collections.Counter(total.reasons).most_common():
            print(f"  {n} x {reason}")


def main():
    args = arguments()
    env = {name: os.environ[name] for name in ("RF_CACHE", "RF_SMOLLM2")}
    # set for a program, it makes the stand-in emulate; here it says only where the emulator is, and the tests of it pass that on
    env["RF_ISA_EMU"] = os.environ.pop("ROCMFORGE_ISA_EMU", "")
    env["ROCMFORGE_ISA_PYTHON"] = sys.executable
    os.environ.pop("RF_LONG", None)
    if args.long:
        env["RF_LONG"] = "1"
    stages = plan.stages(env, args.long)
    if args.only:
        stages = chosen(stages, args.only)
    if args.list:
        print("\n".join(s.name for s in stages))
        return 0
    start = time.monotonic()
    total = Run(stages, plan.OUT, LANES, LIMIT[args.long]).all()
    summary(total)
    print(f"{time.monotonic() - start:.0f} s; logs in build-test/logs")
    print(f"{total.passed} passed, {total.failed} failed, {total.skipped} skipped")
    return 0 if total.passed and not total.failed else 1


sys.exit(main())
