#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""readme_program.py README.md OUT.cpp: writes the README's first ```cpp block that holds a main, for the compiler to judge."""
import pathlib
import re
import sys

readme, output = map(pathlib.Path, sys.argv[1:])
programs = [block for block in re.findall(r"^```cpp\n(.*?)^```", readme.read_text(), re.M | re.S) if "int main" in block]
if not programs:
    sys.exit("README.md holds no program: no ```cpp block with a main")
output.write_text(programs[0])
