#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""what_is_refused.py INCLUDE_FOLDER COMPILER...: a compiler that cannot compile keel says why in its first error."""
import subprocess
import sys

REFUSED = {
    "-std=c++17": "keel needs C++20",
    "-fno-exceptions": "keel needs exceptions",
    "-m32": "keel needs a 64-bit target",
}
TAKEN = ("-fno-rtti",)


def compiled(include, compiler, flag, header):
    return subprocess.run(
        [*compiler, "-std=c++20", flag, f"-I{include}", "-fsyntax-only", "-x", "c++", "-"],
        input=f"#include <{header}>\n", capture_output=True, text=True
    )


def main():
    include, *compiler = sys.argv[1:]
    faults = 0
    for flag, why in REFUSED.items():
        said = compiled(include, compiler, flag, "keel/store.hpp")
        first = next((line for line in said.stderr.splitlines() if " error:" in line), "nothing")
        right = said.returncode != 0 and why in first
        faults += not right
        print(f"{'ok  ' if right else 'FAIL'} {flag}: {first}")
    for flag in TAKEN:
        said = compiled(include, compiler, flag, "keel/keel.hpp")
        faults += said.returncode != 0
        print(f"{'ok  ' if said.returncode == 0 else 'FAIL'} {flag} {said.stderr[:500]}")
    return 1 if faults else 0


sys.exit(main())
