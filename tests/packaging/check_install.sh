#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# check_install.sh BUILD_DIR: installs from a configured build directory into a temporary folder, builds a program against
# what was installed through pkg-config, and configures a project that has keel as a subproject.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$1
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

meson install -C "$build" --no-rebuild --quiet --destdir "$place/root"
file=$(find "$place/root" -name keel.pc)
prefix=${file%/share/pkgconfig/keel.pc}
[[ -n $file && $prefix != "$file" ]] || { echo "keel.pc is not under share/pkgconfig: '$file'"; exit 1; }
missing=$(cd "$root/include" && find keel -name '*.hpp' | while read -r h; do [[ -f $prefix/include/$h ]] || echo "$h"; done)
[[ -z $missing ]] || { echo "not installed: $missing"; exit 1; }

cat >"$place/program.cpp" <<'END'
#include <keel/error.hpp>
#include <keel/version.hpp>
int main() { return keel::version == KEEL_PC_VERSION ? 0 : 1; }
END
export PKG_CONFIG_PATH=${file%/keel.pc}
flags=$(pkg-config --define-variable=prefix="$prefix" --cflags --libs keel)
version=$(pkg-config --modversion keel)
# shellcheck disable=SC2086
"${CXX:-c++}" -std=c++20 "-DKEEL_PC_VERSION=\"$version\"" "$place/program.cpp" $flags -o "$place/program"
"$place/program"

mkdir -p "$place/user/subprojects"
ln -s "$root" "$place/user/subprojects/keel"
cat >"$place/user/meson.build" <<'END'
project('user', 'cpp', default_options: ['cpp_std=c++20'])
executable('user', 'user.cpp', dependencies: dependency('keel', fallback: 'keel'))
END
cp "$place/program.cpp" "$place/user/user.cpp"
unset PKG_CONFIG_PATH
meson setup "$place/user/build" "$place/user" >"$place/log" 2>&1 || { cat "$place/log"; exit 1; }
if ninja -C "$place/user/build" -t targets all | grep -q 'subprojects/keel.*\.o:'; then
    echo "a subproject builds keel's own programs"
    exit 1
fi
