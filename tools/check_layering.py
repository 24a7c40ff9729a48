#!/usr/bin/env python3
"""Fails when a folder includes what the architecture forbids.

The compiler already keeps tools/ out of the inside, because tools link only
zeromini::zeromini. It cannot keep the leaves apart, because they share a root.
"""
import pathlib
import re
import sys

MAY_INCLUDE = {
    "include": {"zeromini"},
    "kernels": {"zeromini", "kernels"},
    "comm": {"zeromini", "comm"},
    "shard": {"zeromini", "shard"},
    "runtime": {"zeromini", "kernels", "comm", "shard", "runtime"},
    "tools": {"zeromini", "tools"},
}
# Inside the runtime: folders that one of these may include, beside its own. What
# lies in runtime/ itself puts the folders together, and the C API is on top.
RUNTIME = {
    "files": set(),
    "device": set(),
    "options": set(),
    "group": {"options"},
    "state": {"device", "group", "options", "files"},
    "step": {"device", "group", "options", "state"},
    "c": {"device", "group", "options", "files", "state", "step", ""},
}
OURS = {"zeromini", "kernels", "comm", "shard", "runtime", "tools", "tests"}
INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^/">]+)/')

root = pathlib.Path(__file__).resolve().parent.parent
bad = []
for folder, allowed in MAY_INCLUDE.items():
    for path in sorted((root / folder).rglob("*")):
        if path.suffix not in {".h", ".cc", ".cu", ".cuh"}:
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = INCLUDE.match(line)
            if match and match[1] in OURS - allowed:
                bad.append(f"{path.relative_to(root)}:{number}: {line.strip()}")

INNER = re.compile(r'^\s*#\s*include\s+"runtime/(?:(\w+)/)?\w+\.h"')
for folder, allowed in RUNTIME.items():
    for path in sorted((root / "runtime" / folder).glob("*")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = INNER.match(line)
            if match and (match[1] or "") not in allowed | {folder}:
                bad.append(f"{path.relative_to(root)}:{number}: {line.strip()}")
named = {path.name for path in (root / "runtime").iterdir() if path.is_dir()}
for folder in sorted(named ^ set(RUNTIME)):
    bad.append(f"runtime/{folder}: not both a folder and one with arrows")

# What a build has is chosen by file, so no source of the library asks for it.
CONDITION = re.compile(r"^\s*#\s*(if|ifdef|ifndef|elif)\b\s*(.*)")
GUARD = re.compile(r"ZEROMINI_\w+_H_$|__cplusplus$")
for folder in ("include", "shard", "runtime"):
    for path in sorted((root / folder).rglob("*")):
        if path.suffix not in {".h", ".cc"}:
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = CONDITION.match(line)
            if match and not (match[1] in {"ifdef", "ifndef"} and GUARD.match(match[2])):
                bad.append(f"{path.relative_to(root)}:{number}: {line.strip()}")

# A file that does not fit a head is two files.
MAX_LINES = 500
for folder in list(MAY_INCLUDE) + ["tests", "docs"]:
    for path in sorted((root / folder).rglob("*")):
        if path.suffix in {".h", ".cc", ".c", ".cu", ".cuh", ".inc", ".py"}:
            lines = len(path.read_text().splitlines())
            if lines >= MAX_LINES:
                bad.append(f"{path.relative_to(root)}: {lines} lines, {MAX_LINES} or more")

# A test that no build names is a test that nobody runs. Names are whole: a test
# must not hide behind a longer one.
built = "".join(p.read_text() for p in (root / "tests").rglob("CMakeLists.txt"))
built = re.sub(r"#.*", "", built)
for path in sorted((root / "tests").rglob("*_test.c*")):
    if path.suffix not in {".c", ".cc", ".cu"}:
        continue
    inside = path.relative_to(root / "tests").with_suffix("")
    folder_list = (path.parent / "CMakeLists.txt")
    named = re.search(rf"(?<![\w/]){re.escape(inside.as_posix())}(?!\w)", built)
    # A folder's own list may name a file relative to itself.
    if not named and folder_list.exists():
        own = re.sub(r"#.*", "", folder_list.read_text())
        named = re.search(rf"(?<!\w){re.escape(path.stem)}(?!\w)", own)
    if not named:
        bad.append(f"{path.relative_to(root)}: no CMakeLists.txt builds it")

print("\n".join(bad), end="\n" if bad else "")
sys.exit(bool(bad))
