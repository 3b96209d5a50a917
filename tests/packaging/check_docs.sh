#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# check_docs.sh FOLDER: makes the reference pages in FOLDER/html. Fails if a public name has no comment, or if a comment confuses Doxygen, and
# prints the places.
set -euo pipefail
out=$(realpath -m "${1:?a folder for the pages}")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

rm -rf "$out"
mkdir -p "$out"
status=0
{
    cat tests/packaging/Doxyfile
    echo "INPUT += $(find include/keel/policy -type d ! -name detail -printf '%p ')"
    echo "OUTPUT_DIRECTORY = \"$out\""
} | doxygen - 2>"$out/warnings" || status=$?
sed "s|^$PWD/||" "$out/warnings"
((status == 0)) && [[ ! -s $out/warnings ]]
