#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Holds the tree to its own rules. Prints one line per check and every fault found; exit code 1 when there is one.

    check_tree.py            all checks
    check_tree.py --update   writes the header list in include/meson.build anew, then leaves
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
INCLUDE = ROOT / "include"
sys.path.insert(0, str(ROOT / "single_include"))
sys.dont_write_bytecode = True
from amalgamate import UMBRELLA, Amalgamation  # noqa: E402

# Who stands on whom. The first row whose pattern matches a header is its layer; a header may include its own layer's folder
# and every lower number, nothing beside or above it.
LAYERS = [
    (r"(types|error|error_code|state|version|fwd)\.hpp", 0),
    (r"detail/", 1),
    (r"(io|policy/checksum)/concept\.hpp", 2),  # what formats are written in terms of
    (r"io/", 3),
    (r"format/", 3),
    (r"(policy/repair|recovery)/finding\.hpp", 4),
    (r"observe/(event|event_queue|concept|json)\.hpp", 5),
    (r"policy/[^/]+/concept\.hpp", 6),
    (r"policy/([^/]+)/", 7),  # models: of their own axis, and of no stage
    (r"options\.hpp", 7),  # what a caller says when opening: words, no stage
    (r"wal/", 8),
    (r"table/", 9),
    (r"checkpoint/", 10),
    (r"backup/", 11),
    (r"recovery/", 11),
    (r"observe/", 12),
    (r"(config|text)\.hpp", 13),
    (r"engine/store_core\.hpp", 14),
    (r"engine/(definitions|log_definitions)\.hpp", 17),
    (r"engine/", 15),
    (r"(store|record_log)\.hpp", 16),
    (r"(engine|log)\.hpp", 18),
    (r"instantiate\.hpp", 19),
    (r"keel\.hpp", 20),
    (r"tool/|tool\.hpp", 21),
]
# Only these may name a policy model; every other header knows the axis by its concept.
NAMES_MODELS = r"policy/|config\.hpp|keel\.hpp|tool"
# What only some folders may meet.
OTHERS = [
    (r"boost/interprocess/|sys/(?!auxv)|unistd\.h|fcntl\.h|dirent\.h|signal\.h|setjmp\.h|linux/", r"io/|observe/|tool"),
    (r"boost/crc\.hpp", r"policy/checksum/"),
    (r"[a-z]*intrin\.h|arm_", r"policy/|detail/"),
    (r"xxhash\.h|openssl/", r"policy/checksum/"),
    (r"(zstd|lz4)\.h", r"policy/compression/"),
    (r"CLI/", r"tool"),
]
# Third-party headers that make one of ours optional, and the name meson.build gives what they belong to.
NEEDS = {
    "xxhash.h": "xxhash",
    "openssl/": "libcrypto",
    "zstd.h": "libzstd",
    "lz4.h": "liblz4",
    "CLI/": "CLI11",
    "nlohmann/": "nlohmann_json",
}
# Includes against the layers that have a reason: (header, what it includes).
EXCEPTIONS = set()

TOP_LEVEL = {"include", "tests", "examples", "single_include", "meson.build", "README.md", "LICENSE"}

OUR_INCLUDE = re.compile(r"^\s*#\s*include\s*<keel/([^>]+)>", re.M)
OTHER_INCLUDE = re.compile(r"^\s*#\s*include\s*[<\"](?!keel/)([^>\"]+)[>\"]", re.M)


def layer_of(header):
    for pattern, number in LAYERS:
        if re.match(pattern, header):
            return number
    return None


def folder_of(header):
    return header.rpartition("/")[0]


def one_way(header, text):
    """Faults in what `header` (its path below include/keel/) includes."""
    mine = layer_of(header)
    if mine is None:
        return [f"{header}: no layer in LAYERS; give its folder one"]
    faults = []
    for other in OUR_INCLUDE.findall(text):
        theirs = layer_of(other)
        is_model = other.startswith("policy/") and theirs == layer_of("policy/any/model.hpp")
        if (header, other) in EXCEPTIONS:
            continue
        if theirs is None:
            faults.append(f"{header} includes {other}, which has no layer")
        elif is_model and not re.match(NAMES_MODELS, header):
            faults.append(f"{header} names a policy model ({other}); include the axis' concept.hpp")
        elif theirs > mine:
            faults.append(f"{header} (layer {mine}) includes {other} (layer {theirs}): includes point one way")
        elif theirs == mine and mine > 0 and folder_of(other).split("/detail")[0] != folder_of(header).split("/detail")[0]:
            faults.append(f"{header} includes {other}, which stands beside it on layer {mine}")
        elif "/detail/" in other and other.split("/detail/")[0] != header.split("/")[0] and not header.startswith(
            other.split("/detail/")[0] + "/"
        ):
            faults.append(f"{header} includes {other}, which is another folder's private matter")
    for other in OTHER_INCLUDE.findall(text):
        for pattern, allowed in OTHERS:
            if re.match(pattern, other) and not re.match(allowed, header):
                faults.append(f"{header} includes {other}; only {allowed} does")
    return faults


def headers():
    return sorted(p.relative_to(INCLUDE).as_posix() for p in INCLUDE.rglob("*.hpp"))


def listed():
    """(always, optional): the two lists of include/meson.build."""
    text = (INCLUDE / "meson.build").read_text()
    always = re.search(r"^keel_headers = \[(.*?)^\]", text, re.M | re.S)[1]
    optional = re.search(r"^keel_optional_headers = \{(.*?)^\}", text, re.M | re.S)[1]
    return re.findall(r"'(keel/[^']+)'", always), re.findall(r"'(keel/[^']+)'\s*:", optional)


def check_header_list():
    always, optional = listed()
    there = set(headers())
    faults = [f"include/meson.build lacks '{h}' (./tests/run update adds it)" for h in sorted(there - {*always, *optional})]
    faults += [f"include/meson.build names '{h}', which does not exist" for h in sorted({*always, *optional} - there)]
    if always != sorted(set(always)):
        faults.append("include/meson.build: keel_headers is not sorted")
    return faults


def needs_of(header):
    """What a header needs besides Boost and tl::expected, through the headers of ours it includes too.

    What it includes only where something is installed, it does not need.
    """
    needs, reached, left = set(), {header}, [header]
    while left:
        text = re.sub(r"(?ms)^#if __has_include\(.*?^#endif", "", (INCLUDE / left.pop()).read_text())
        needs |= {need for prefix, need in NEEDS.items() for other in OTHER_INCLUDE.findall(text) if other.startswith(prefix)}
        new = {f"keel/{other}" for other in OUR_INCLUDE.findall(text)} - reached
        reached |= new
        left += [name for name in new if (INCLUDE / name).is_file()]
    return needs


def update_header_list():
    always, optional = "", ""
    for header in headers():
        if needs := sorted(needs_of(header)):
            optional += f"    '{header}': {needs},\n"
        else:
            always += f"    '{header}',\n"
    path = INCLUDE / "meson.build"
    text = re.sub(r"(?ms)^keel_headers = \[\n.*?^\]", lambda m: f"keel_headers = [\n{always}]", path.read_text())
    text = re.sub(r"(?ms)^keel_optional_headers = \{\n.*?^\}", lambda m: f"keel_optional_headers = {{\n{optional}}}", text)
    if text != path.read_text():
        path.write_text(text)


def check_umbrella():
    text = (INCLUDE / UMBRELLA).read_text()
    faults = []
    tree = Amalgamation()
    tree.text()
    always, optional = listed()
    faults += [f"{UMBRELLA} does not reach {h}; add it, or list it as optional" for h in always
               if h not in {*tree.reached, *tree.sometimes} and "/detail/" not in h]
    faults += [f"{UMBRELLA} reaches {h}, which is optional" for h in optional if h in tree.reached]
    code = re.sub(r"//[^\n]*|^\s*#[^\n]*", "", text, flags=re.M).strip()
    if code:
        faults.append(f"{UMBRELLA} holds more than includes: {code.splitlines()[0]}")
    return faults


def check_layers():
    return [
        fault
        for path in sorted((INCLUDE / "keel").rglob("*.hpp"))
        for fault in one_way(path.relative_to(INCLUDE / "keel").as_posix(), path.read_text())
    ]


def check_layer_rules():
    """The rules above notice what they are there for."""
    bad = {
        "types.hpp": "#include <keel/error.hpp>\n#include <keel/wal/writer.hpp>",
        "wal/writer.hpp": "#include <keel/policy/checksum/crc32c.hpp>",
        "format/record.hpp": "#include <keel/wal/writer.hpp>",
        "backup/writer.hpp": "#include <keel/recovery/plan.hpp>",
        "table/merge.hpp": "#include <boost/crc.hpp>",
        "wal/reader.hpp": "#include <unistd.h>",
        "table/builder.hpp": "#include <keel/wal/detail/arena.hpp>",
        "strange/new.hpp": "",
    }
    good = {
        "wal/writer.hpp": "#include <keel/policy/checksum/concept.hpp>\n#include <keel/wal/detail/arena.hpp>",
        "config.hpp": "#include <keel/policy/checksum/crc32c.hpp>",
        "policy/checksum/crc32c.hpp": "#include <keel/policy/checksum/crc32.hpp>\n#include <boost/crc.hpp>",
        "engine.hpp": "#include <keel/recovery/plan.hpp>",
    }
    faults = [f"a forbidden include in {h} goes unnoticed" for h, text in bad.items() if not one_way(h, text)]
    return faults + [f"an allowed include is refused: {f}" for h, text in good.items() for f in one_way(h, text)]


def check_shape():
    """Licence line and guard of every header; licence line of every other source."""
    faults = []
    for path in sorted((INCLUDE / "keel").rglob("*.hpp")):
        name = path.relative_to(INCLUDE).as_posix()
        text = path.read_text()
        guard = re.sub(r"[^A-Za-z0-9]", "_", name).upper()
        if not re.match(rf"// SPDX-License-Identifier: BSL-1\.0\n#ifndef {guard}\n#define {guard}\n", text):
            faults.append(f"{name}: does not open with the SPDX line and the guard {guard}")
        if not text.endswith("#endif\n"):
            faults.append(f"{name}: does not end with #endif and a line break")
        if "#pragma once" in text:
            faults.append(f"{name}: #pragma once does not protect who meets both the tree and the single header")
    for folder in ("tests", "examples"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".cpp", ".hpp") and "SPDX-License-Identifier: BSL-1.0" not in path.read_text()[:60]:
                faults.append(f"{path.relative_to(ROOT)}: does not open with the SPDX line")
    return faults


def check_top_level():
    there = {p.name for p in ROOT.iterdir() if not p.name.startswith(".") and p.name != "build"}
    faults = [f"the top level holds {name}, which belongs nowhere there" for name in sorted(there - TOP_LEVEL)]
    faults += [f"the top level lacks {name}" for name in sorted(TOP_LEVEL - there)]
    if (ROOT / ".git").exists():
        tracked = subprocess.run(["git", "-C", ROOT, "ls-files", "build"], capture_output=True, text=True).stdout
        faults += ["build/ is tracked"] if tracked else []
    return faults


def check_tests_are_built():
    """Every test is named by the meson.build of its folder; fuzzers and benchmarks are found there by their names."""
    return [
        f"{path.relative_to(ROOT)}: no meson.build of its folder names it, so it is never run"
        for path in sorted((ROOT / "tests").rglob("*_test.cpp"))
        if f"'{path.name}'" not in (path.parent / "meson.build").read_text()
    ]


def check_versions():
    header = (INCLUDE / "keel/version.hpp").read_text()
    parts = [re.search(rf"version_{part} = (\d+);", header)[1] for part in ("major", "minor", "patch")]
    version = ".".join(parts)
    faults = []
    if f'version = "{version}";' not in header:
        faults.append(f"version.hpp: its text and its numbers ({version}) differ")
    if (said := re.search(r"^    version: '([^']+)'", (ROOT / "meson.build").read_text(), re.M)[1]) != version:
        faults.append(f"meson.build says {said}, version.hpp says {version}")
    for path in sorted((INCLUDE / "keel").rglob("*.hpp")):
        for space in set(re.findall(r"^namespace keel::inline (\w+)", path.read_text(), re.M)):
            if space != f"v{parts[0]}":
                faults.append(f"{path.relative_to(ROOT)}: inline namespace {space}, but the major version is {parts[0]}")
        if re.search(r"^namespace keel\s*\{|^namespace keel::(?!inline)", path.read_text(), re.M):
            faults.append(f"{path.relative_to(ROOT)}: opens keel without its inline namespace")
    return faults


# Names that were replaced by the field's own. They do not come back; deprecated.hpp may have them as aliases.
OLD_NAMES = {
    "adopt_stranger": "adopt_unknown",
    "find_on_top": "find_level0",
    "held_block": "pinned_block",
    "keeper_thread": "log_thread",
    "level_view": "store_version",
    "log_run": "sealed_segment_reader",
    "looks_max": "retries_max",
    "moments": "snapshot_list",
    "newer_in": "any_write_after",
    "put_on_top": "add_level0",
    "record_index": "memtable_index",
    "rescue": "fail_over",
    "segment_keeper": "segment_pool",
    "sort_strangers": "classify_unknown",
    "sorted_table": "sstable_reader",
    "table_writer": "sstable_builder",
    "untable": "remove_table",
    "write_beside": "commit_external",
}


def check_words():
    """Code and comments use the names of OLD_NAMES' right side."""
    old = re.compile(r"\b(" + "|".join(OLD_NAMES) + r")\b")
    faults = []
    for top in ("include", "tests", "examples"):
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix not in (".hpp", ".cpp", ".build") or path.name == "deprecated.hpp":
                continue
            for number, line in enumerate(path.read_text().splitlines(), 1):
                faults += [
                    f"{path.relative_to(ROOT)}:{number}: {word} is {OLD_NAMES[word]} now" for word in old.findall(line)
                ]
    return faults


CHECKS = {
    "header list complete": check_header_list,
    "umbrella complete": check_umbrella,
    "includes point one way": check_layers,
    "the include rules notice": check_layer_rules,
    "licence lines and guards": check_shape,
    "top level": check_top_level,
    "every test is built": check_tests_are_built,
    "no old names": check_words,
    "versions agree": check_versions,
}


def main():
    if "--update" in sys.argv:
        update_header_list()
        return 0
    failed = False
    for name, check in CHECKS.items():
        try:
            faults = check()
        except SystemExit as refusal:  # of amalgamate.py
            faults = [str(refusal)]
        failed |= bool(faults)
        print(f"{'FAIL' if faults else 'ok  '} {name}")
        for fault in faults:
            print(f"     {fault}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
