"""Packs wheels into one archive that unpacks to a directory for PYTHONPATH, without what no run needs.

python benchmarks/gpu/pack_wheels.py WHEELS OUTPUT.tar.xz
"""

import io
import lzma
import sys
import tarfile
import zipfile
from fnmatch import fnmatch
from pathlib import Path

MOST_MIB = 55
MIB = 2**20
KEPT = {
    "bitsandbytes": ("*.py", "*cuda130.so", "*_cpu.so", "*.dist-info/*"),
    "llm_jepa": ("*.dist-info/*",),
}
"""Distribution -> the files of it that are packed; of the others, all."""
LEFT_OUT = ("*.data/*", "*/tests/*", "*.h", "*.hpp", "*.cc", "*.pyx", "*.pxd", "*.pxi")
LEFT_OUT_OF = {
    "pyarrow": (
        "*flight*",
        "*_s3fs*",
        "*libarrow_s3*",
        "*_cpp_tests*",
        "pyarrow/include*",
        "pyarrow/src/*",
        "*/libarrow_python*.so",  # the linker's names of libraries; programs load the numbered ones
        "*/libarrow_python*.so.*.*.*",
    ),
}
"""Distribution -> what is left out of it beside `LEFT_OUT`."""


def main() -> None:
    """Pack, and say how large the archive is."""
    wheels, output = Path(sys.argv[1]), Path(sys.argv[2])
    with lzma.open(output, "wb", preset=9) as stream, tarfile.open(fileobj=stream, mode="w") as archive:
        for wheel in sorted(wheels.glob("*.whl")):
            add(archive, wheel)
    size = output.stat().st_size / MIB
    print(f"{output.name}: {size:.1f} MiB")
    if size > MOST_MIB:
        sys.exit(f"That is more than the {MOST_MIB} MiB that may travel; leave something out.")


def add(archive: tarfile.TarFile, wheel: Path) -> None:
    """Add the files of a wheel that runs need."""
    distribution = wheel.name.split("-")[0]
    with zipfile.ZipFile(wheel) as source:
        for name in source.namelist():
            if not name.endswith("/") and is_packed(distribution, name):
                content = source.read(name)
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def is_packed(distribution: str, name: str) -> bool:
    """Whether a file of a distribution is needed."""
    left_out = (*LEFT_OUT, *LEFT_OUT_OF.get(distribution, ()))
    return matches(name, KEPT.get(distribution, ("*",))) and not matches(name, left_out)


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a path matches one of the patterns."""
    return any(fnmatch(name, pattern) for pattern in patterns)


if __name__ == "__main__":
    main()
