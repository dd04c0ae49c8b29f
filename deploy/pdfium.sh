#!/bin/sh
# Fetches libpdfium, a shared library that reads PDFs, into a folder (beside the artel program is where it is looked for).
# Artel reads PDFs without it. It comes out of the wheel of pypdfium2, a Python package, on PyPI; the version is pinned.
# usage: deploy/pdfium.sh FOLDER
set -eu
version=5.15.2
folder=${1:?usage: pdfium.sh FOLDER}
mkdir -p "$folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$work" "pypdfium2==$version"
python3 - "$work" "$folder" <<'PYTHON'
import glob, os, sys, zipfile
work, folder = sys.argv[1:]
wheel = glob.glob(os.path.join(work, "*.whl"))[0]
with zipfile.ZipFile(wheel) as archive:
    names = [n for n in archive.namelist() if os.path.basename(n) in ("libpdfium.so", "libpdfium.dylib", "pdfium.dll")]
    if not names:
        sys.exit(f"{wheel} holds no pdfium library")
    target = os.path.join(folder, os.path.basename(names[0]))
    with archive.open(names[0]) as source, open(target, "wb") as out:
        out.write(source.read())
print(target)
PYTHON
