#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""readme_quotes.py ROOT: what README.md and MEASURED.md quote and name is there.

A ```cpp block without a main stands, line for line, in the file that was named last in front of it. Every file in backticks and every link
leads to something: a claim names the test behind it, so that test must exist.
"""
import pathlib
import re
import sys

DOCUMENTS = ("README.md", "tests/bench/MEASURED.md")
SOURCE = re.compile(r"`(examples/[\w/]+(?:\.cpp|/))`")
NAMED = re.compile(r"`((?:tests|examples|include|single_include)/[\w./-]*)`")
LINK = re.compile(r"\]\(([^)]+)\)")


def slug(heading):
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def quoted(root, text):
    """Faults of the code that is quoted, and how many pieces were compared."""
    faults, compared = [], 0
    for block in re.finditer(r"^```cpp\n(.*?)^```", text, re.M | re.S):
        if "int main" in block[1]:
            continue
        names = SOURCE.findall(text[: block.start()])
        line = text[: block.start()].count("\n") + 1
        if not names:
            faults.append(f"line {line}: no file is named in front of this code")
            continue
        place = root / names[-1]
        files = sorted(place.glob("*.cpp")) if place.is_dir() else [place]
        compared += 1
        if not any(block[1] in f.read_text() for f in files if f.is_file()):
            faults.append(f"line {line}: {names[-1]} does not hold this code:\n{block[1]}")
    return faults, compared


def named(root, document, text):
    faults = [f"`{path}` does not exist" for path in sorted(set(NAMED.findall(text))) if not (root / path).exists()]
    anchors = {slug(h) for h in re.findall(r"^#+ (.*)$", text, re.M)} | set(re.findall(r'<a id="([^"]+)">', text))
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    for target in sorted(set(LINK.findall(prose))):
        if target.startswith("#"):
            faults += [] if target[1:] in anchors else [f"there is no heading for {target}"]
        elif not ((root / document).parent / target).exists():
            faults.append(f"the link to {target} leads nowhere")
    return faults


def main():
    root = pathlib.Path(sys.argv[1])
    status = 0
    for document in DOCUMENTS:
        text = (root / document).read_text()
        faults, compared = quoted(root, text)
        faults += named(root, document, text)
        print(f"{'FAIL' if faults else 'ok  '} {document}: {compared} pieces of code, {len(set(NAMED.findall(text)))} files named")
        for fault in faults:
            print(f"     {fault}")
        status |= bool(faults)
    if not quoted(root, (root / "README.md").read_text())[1]:
        sys.exit("README.md quotes nothing: this script no longer finds its code")
    return status


sys.exit(main())
