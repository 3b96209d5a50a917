#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""compile_bench.py [--rounds N] [--json]: what including keel, and each engine, costs the compiler (CXX, else g++).

Each program is compiled on its own at -O0 and -O2. Seconds are the compiler's processor time, medians of the rounds; memory is its
peak; code is the size of all .text sections of the object file."""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

root = pathlib.Path(__file__).resolve().parents[2]
program = """#include <keel/keel.hpp>
template <class Engine>
bool works(std::string const& folder) {
    auto db = Engine::open(folder);
    return db && db->put("key", "value") && db->get("key");
}
"""
user = """#include <keel/store.hpp>
using store = keel::engine<>;
bool works(std::string const& folder) {
    auto db = store::open(folder);
    if (!db || !db->put("key", "value") || !db->get("key")) return false;
    keel::write_batch batch;
    batch.put("another", "value");
    if (!db->write(batch)) return false;
    std::size_t bytes = 0;
    for (auto&& [key, value] : db->scan()) bytes += key.size() + value.size();
    return bytes != 0;
}
"""
programs = {
    "a file that uses a store": user,
    "the file that makes it": "#include <keel/keel.hpp>\ntemplate class keel::basic_engine<keel::config<>>;\n",
    "the include alone": "#include <keel/keel.hpp>\n",
    "one engine": program + "template bool works<keel::engine<>>(std::string const&);\n",
    "two engines": program + "template bool works<keel::engine<>>(std::string const&);\n"
    "template bool works<keel::engine<keel::durability::os_buffered>>(std::string const&);\n",
}


def compiled(compiler, level, source, to):
    """Processor seconds, peak MiB."""
    child = subprocess.Popen([*compiler, "-std=c++20", level, f"-I{root / 'include'}", "-c", source, "-o", to])
    _, status, used = os.wait4(child.pid, 0)
    if status != 0:
        sys.exit(f"{source} does not compile")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def text_bytes(of):
    listed = subprocess.check_output(["size", "-A", of], text=True)
    return sum(int(bytes) for bytes in re.findall(r"^\.text\S*\s+(\d+)", listed, re.M))


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--json", action="store_true")
    wanted = arguments.parse_args()
    compiler = os.environ.get("CXX", "g++").split()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, text in programs.items():
            source, to = f"{folder}/program.cpp", f"{folder}/program.o"
            pathlib.Path(source).write_text(text)
            for level in "-O0", "-O2":
                runs = [compiled(compiler, level, source, to) for _ in range(wanted.rounds)]
                rows.append({
                    "program": name,
                    "level": level,
                    "seconds": round(statistics.median(seconds for seconds, _ in runs), 2),
                    "peak_mib": round(statistics.median(peak for _, peak in runs)),
                    "text_bytes": text_bytes(to),
                })
    if wanted.json:
        print(json.dumps({"compiler": " ".join(compiler), "rounds": wanted.rounds, "compilations": rows}, indent=2))
        return
    print(f"{'compiled by ' + ' '.join(compiler):<24} {'':<5} {'seconds':>8} {'peak MiB':>9} {'code KiB':>9}")
    for r in rows:
        print(f"{r['program']:<24} {r['level']:<5} {r['seconds']:8.1f} {r['peak_mib']:9} {r['text_bytes'] / 1024:9.0f}")


main()
