#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# check_docs.sh FOLDER: makes the reference pages in FOLDER/html. Fails if a public name has no comment, or if Doxygen cannot read a comment, and
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
python3 - "$out/xml" >>"$out/warnings" <<'END_OF_PYTHON'
import pathlib, sys, xml.etree.ElementTree as xml
for path in sorted(pathlib.Path(sys.argv[1]).glob("concept*.xml")):
    concept = xml.parse(path).find("compounddef")
    if not "".join(concept.find("briefdescription").itertext()).strip():
        place = concept.find("location").attrib
        print(f"include/{place['file']}:{place['line']}: error: Concept {concept.findtext('compoundname')} is not documented.")
END_OF_PYTHON
sed "s|^$PWD/||" "$out/warnings"
((status == 0)) && [[ ! -s $out/warnings ]]
