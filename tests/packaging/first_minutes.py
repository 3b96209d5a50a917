#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""first_minutes.py ROOT COMPILER: a new user's first minutes.

Each way to add keel that README.md has under "Install" is tried in a scratch folder with nothing but the commands and files that stand there.
The program must print what the README shows.

An engine takes half a minute to compile, so each compiler compiles it once: in the way of two files, which comes first. In the other ways the
README's program includes keel/store.hpp, which only declares, and the command `c++` adds that engine where it links. It compiles without
optimization, and gives an empty program for the tool wal-recovery, which check_install.sh builds.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

STAND_IN = """#!/usr/bin/env bash
links=1 input=0 words=()
for word in "$@"; do
    case $word in
    -c | -E | -S) links=0 ;;
    -*) ;;
    *.cpp | *.cxx | *.cc | *.o) input=1 ;;
    esac
    case $word in
    */wal_recovery.cpp) words+=("$FIRST_MINUTES_STUB") ;;
    *) words+=("$word") ;;
    esac
done
if ((links && input)) && [[ -n ${FIRST_MINUTES_ENGINE:-} ]]; then words+=("$FIRST_MINUTES_ENGINE"); fi
exec "$FIRST_MINUTES_COMPILER" "${words[@]}" -O0
"""
FILES = {"cmake": "CMakeLists.txt", "meson": "meson.build", "cpp": "store.cpp"}
WAYS_MIN = 6
TWO_FILES = "store.cpp"


def read_readme(root):
    """(program, what it prints, {title: [(kind, text)]})"""
    text = (root / "README.md").read_text()
    program = next(b for b in re.findall(r"^```cpp\n(.*?)^```", text, re.M | re.S) if "int main" in b)
    shown = re.search(r"^It prints.*?^```text\n(.*?)^```", text, re.M | re.S)[1]
    install = re.search(r"^## Install\n(.*?)^## ", text, re.M | re.S)[1]
    ways = {}
    for title, body in re.findall(r"^### (.*?)\n(.*?)(?=^### |\Z)", install, re.M | re.S):
        ways[title] = re.findall(r"^```(sh|cmake|meson|cpp)\n(.*?)^```", body, re.M | re.S)
    return program, shown, ways


def try_way(place, program, blocks, environment):
    """What its commands wrote, and the error if there was one."""
    place.mkdir()
    (place / "main.cpp").write_text(program)
    for kind, text in blocks:
        if kind != "sh":
            (place / FILES[kind]).write_text(text)
    commands = "set -e\n" + "\n".join(text for kind, text in blocks if kind == "sh")
    done = subprocess.run(["bash", "-c", commands], cwd=place, env=environment, capture_output=True, text=True)
    return done.stdout, "" if done.returncode == 0 else f"exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"


def main():
    root, compiler = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
    program, shown, ways = read_readme(root)
    if len(ways) < WAYS_MIN:
        sys.exit(f"README.md has {len(ways)} ways under Install, {WAYS_MIN} are expected")
    status = 0
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        for made in ("bin", "home"):
            (scratch / made).mkdir()
        (scratch / "bin/c++").write_text(STAND_IN)
        (scratch / "bin/c++").chmod(0o755)
        (scratch / "stub.cpp").write_text("int main() {}\n")
        ours = ("CXX", "CC", "CXXFLAGS", "LDFLAGS", "PKG_CONFIG_PATH", "CMAKE_PREFIX_PATH", "KEEL_BUILD_DIR")
        environment = {k: v for k, v in os.environ.items() if k not in ours} | {
            "PATH": f"{scratch / 'bin'}:{os.environ['PATH']}",
            "HOME": str(scratch / "home"),
            "KEEL": str(root),
            "FIRST_MINUTES_COMPILER": compiler,
            "FIRST_MINUTES_STUB": str(scratch / "stub.cpp"),
        }
        thin = program.replace("<keel/keel.hpp>", "<keel/store.hpp>")
        # The way of two files first: the others take its engine.
        for number, title in enumerate(sorted(ways, key=lambda t: all(kind != "cpp" for kind, _ in ways[t]))):
            blocks = ways[title]
            place = scratch / f"way{number}"
            wrote, wrong = try_way(place, thin if number else program, blocks, environment)
            runs = sum(len(re.findall(r"^\./(?:build/)?main$", text, re.M)) for kind, text in blocks if kind == "sh")
            if not wrong and (runs == 0 or wrote.count(shown) != runs):
                wrong = f"{runs} runs were to print\n{shown}and this was printed\n{wrote}"
            print(f"{'FAIL' if wrong else 'ok  '} {compiler}: {title} {wrong}", flush=True)
            status |= bool(wrong)
            if number == 0:
                environment["FIRST_MINUTES_ENGINE"] = str(place / "store.o")
    return status


sys.exit(main())
