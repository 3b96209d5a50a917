#!/usr/bin/env bash
# SPDX-License-Identifier: BSL-1.0
# check_install.sh BUILD_DIR: installs from a configured build directory into a scratch folder, and tries what is installed: the list of files,
# the tool, its man page and its completion, pkg-config, CMake's find_package. A project that has keel as a subproject builds nothing of keel.
# first_minutes.py does the same as a user does, from the README.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$1
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
fail() { echo "$*" >&2; exit 1; }

# ---- what is built, and what is installed
objects=$(ninja -C "$build" -t inputs all | grep '\.o$' || true)
[[ $objects == examples/wal-recovery.p/wal_recovery.cpp.o ]] || fail "meson install compiles more than the tool: $objects"
meson compile -C "$build" >"$place/log" 2>&1 || { cat "$place/log"; exit 1; }
meson install -C "$build" --no-rebuild --quiet --destdir "$place/root"
prefix=$(find "$place/root" -name keel.pc)
prefix=${prefix%/share/pkgconfig/keel.pc}
[[ -n $prefix ]] || fail "keel.pc is not under share/pkgconfig"
{
    (cd "$root" && find include/keel -name '*.hpp')
    printf '%s\n' bin/wal-recovery share/pkgconfig/keel.pc share/man/man1/wal-recovery.1 \
        share/bash-completion/completions/wal-recovery share/zsh/site-functions/_wal-recovery \
        share/cmake/keel/keel-config.cmake share/cmake/keel/keel-config-version.cmake share/cmake/keel/keel-dependencies.cmake
} | sort >"$place/expected"
(cd "$prefix" && find . -type f | sed 's,^\./,,' | sort) >"$place/installed"
diff -u "$place/expected" "$place/installed" || fail "these are not the files that are to be installed"

# ---- the tool, its man page and its completion know the same commands and options
tool=$prefix/bin/wal-recovery
"$tool" --version | grep -q '^wal-recovery [0-9]' || fail "wal-recovery --version says nothing"
commands=$("$tool" --help | sed -n 's/^  \([a-z][a-z-]*\)  .*/\1/p')
[[ -n $commands ]] || fail "wal-recovery --help lists no commands"
man_text=$(tr -d '\\' <"$prefix/share/man/man1/wal-recovery.1")
bash_text=$(<"$prefix/share/bash-completion/completions/wal-recovery")
zsh_text=$(<"$prefix/share/zsh/site-functions/_wal-recovery")
for command in $commands; do
    for word in "$command" $("$tool" "$command" --help | grep -oE -- '(^|[ ,])--[a-z][a-z-]*' | tr -d ' ,' | sort -u); do
        for text in man_text bash_text zsh_text; do
            [[ ${!text} == *"$word"* ]] || fail "$text lacks '$word' of wal-recovery $command"
        done
    done
done
if command -v man >/dev/null; then
    warnings=$(LC_ALL=C.UTF-8 MANROFFSEQ='' MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 "$prefix/share/man/man1/wal-recovery.1" 2>&1 >/dev/null)
    [[ -z $warnings ]] || fail "man page: $warnings"
fi
answers=$(bash -c 'source "$1"; COMP_WORDS=(wal-recovery repair --strategy ""); COMP_CWORD=3; _wal_recovery; echo "${COMPREPLY[*]}"
    COMP_WORDS=(wal-recovery va); COMP_CWORD=1; _wal_recovery; echo "${COMPREPLY[*]}"' \
    bash "$prefix/share/bash-completion/completions/wal-recovery")
[[ $answers == $'skip partial rollback\nvalidate' ]] || fail "bash completes wrongly: $answers"
if command -v zsh >/dev/null; then zsh -n "$prefix/share/zsh/site-functions/_wal-recovery"; fi

# ---- pkg-config
cat >"$place/program.cpp" <<'END'
#include <keel/policy/checksum/crc32.hpp> // Boost
#include <keel/store.hpp> // tl::expected
#include <keel/version.hpp>
int main() { return keel::version == KEEL_SAID_VERSION ? 0 : 1; }
END
export PKG_CONFIG_PATH=$prefix/share/pkgconfig
flags=$(pkg-config --define-variable=prefix="$prefix" --cflags --libs keel)
version=$(pkg-config --modversion keel)
for header in $(pkg-config --variable=needs_headers keel | tr ';' ' '); do
    echo "#include <$header>"
done >"$place/needed.cpp"
[[ -s $place/needed.cpp ]] || fail "keel.pc does not name the headers that it needs"
"${CXX:-c++}" -std=c++20 -fsyntax-only "$place/needed.cpp"
# shellcheck disable=SC2086
"${CXX:-c++}" -std=c++20 "-DKEEL_SAID_VERSION=\"$version\"" "$place/program.cpp" $flags -o "$place/program"
"$place/program"

# ---- CMake: the installed package, moved elsewhere; which versions it says it is
mkdir "$place/cmake"
mv "$prefix" "$place/elsewhere"
cat >"$place/cmake/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.18)
project(user CXX)
foreach(other 0.0 0.2 1.0)
    find_package(keel ${other} QUIET)
    if(keel_FOUND)
        message(FATAL_ERROR "keel ${keel_VERSION} takes itself for ${other}")
    endif()
endforeach()
find_package(keel ${WANTED} EXACT REQUIRED)
find_package(keel REQUIRED) # twice in one project
add_executable(user ../program.cpp)
target_compile_definitions(user PRIVATE "KEEL_SAID_VERSION=\"${keel_VERSION}\"")
target_link_libraries(user PRIVATE keel::keel)
END
cmake -S "$place/cmake" -B "$place/cmake/build" -DCMAKE_PREFIX_PATH="$place/elsewhere" -DWANTED="$version" >"$place/log" 2>&1 &&
    cmake --build "$place/cmake/build" >>"$place/log" 2>&1 || { cat "$place/log"; exit 1; }
"$place/cmake/build/user"
# Without tl::expected it says so.
if cmake -S "$place/cmake" -B "$place/cmake/without" -DCMAKE_PREFIX_PATH="$place/elsewhere" -DWANTED="$version" \
    -DCMAKE_DISABLE_FIND_PACKAGE_tl-expected=ON -DKEEL_EXPECTED_INCLUDE_DIR=KEEL_EXPECTED_INCLUDE_DIR-NOTFOUND \
    -DCMAKE_FIND_ROOT_PATH_MODE_INCLUDE=ONLY -DCMAKE_FIND_ROOT_PATH="$place/nothing" >"$place/log" 2>&1; then
    fail "find_package(keel) succeeds without tl::expected"
fi
tr -s ' \n' ' ' <"$place/log" | grep -q 'keel needs \(tl/expected.hpp\|the headers of Boost\)' || { cat "$place/log"; exit 1; }

# ---- Meson: a subproject
unset PKG_CONFIG_PATH
mkdir -p "$place/user/subprojects"
ln -s "$root" "$place/user/subprojects/keel"
cat >"$place/user/meson.build" <<'END'
project('user', 'cpp', default_options: ['cpp_std=c++20'])
executable('user', 'user.cpp', dependencies: dependency('keel', fallback: 'keel'))
END
cp "$place/program.cpp" "$place/user/user.cpp"
meson setup "$place/user/build" "$place/user" -Dauto_features=enabled >"$place/log" 2>&1 || { cat "$place/log"; exit 1; }
if ninja -C "$place/user/build" -t targets all | grep -q 'subprojects/keel.*\.o:'; then
    fail "a subproject builds keel's own programs"
fi
