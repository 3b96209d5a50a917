#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""face_is_thin.py INCLUDE_FOLDER COMPILER...: keel/store.hpp and keel/record_log.hpp stay declarations.

What every file that uses a store pays for is looked at after the preprocessor: how many lines there are, and which headers they come from.
"""
import re
import subprocess
import sys

FACES = ("keel/store.hpp", "keel/record_log.hpp")
# There are 65,400 with GCC 12 and with Clang 14; keel.hpp has 162,000.
LINES_MAX = 70_000
# What a face may have of keel's stages: words, and nothing that does anything.
OURS = re.compile(
    r"keel/(error|fwd|options|state|types|store|record_log)\.hpp"
    r"|keel/(recovery/report|io/(machine|process)|wal/log_record|format/frame_type|policy/repair/(concept|finding))\.hpp"
    r"|keel/engine/(batch|range|scan|scan_calls|snapshot|storage_report|transact)\.hpp"
)
# Headers of the standard library, and of others, that take the compiler long.
NOT_OTHERS = re.compile(r"/(random|map|set|regex|iostream|iomanip|filesystem|future|condition_variable|algorithm|immintrin\.h)$|boost/")


def faults_of(face, include, compiler):
    source = f"#include <{face}>\n"
    text = subprocess.run(
        [*compiler, "-std=c++20", f"-I{include}", "-E", "-x", "c++", "-"], input=source, capture_output=True, text=True, check=True
    ).stdout
    lines = sum(1 for line in text.splitlines() if line.strip() and not line.startswith("#"))
    files = set(re.findall(r'^# \d+ "([^"<]+)"', text, re.M))
    ours = {"keel/" + f.split("/keel/", 1)[1] for f in files if f.startswith(include.rstrip("/") + "/keel/")}
    print(f"{face}: {lines} lines, {len(ours)} headers of keel")
    faults = [f"{face} includes {h}" for h in sorted(ours) if not OURS.fullmatch(h)]
    faults += [f"{face} includes {f}" for f in sorted(files) if NOT_OTHERS.search(f)]
    if lines > LINES_MAX:
        faults.append(f"{face}: {lines} lines behind the preprocessor, {LINES_MAX} are allowed")
    if not ours:
        faults.append(f"{face}: no header of keel was seen; is {include} right?")
    return faults


def main():
    include, *compiler = sys.argv[1:]
    faults = [fault for face in FACES for fault in faults_of(face, include, compiler)]
    print("\n".join(faults))
    return 1 if faults else 0


sys.exit(main())
