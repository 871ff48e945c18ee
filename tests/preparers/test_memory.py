"""Large files take no more memory than small ones, but for the digests of their rows: see test_digests."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PEAK = """
import resource, runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
LINE_BYTES = 100_000


def peak_bytes(tmp_path: Path, num_rows: int) -> int:
    """What the preparer of translations takes at most, on two files with `num_rows` lines of LINE_BYTES together."""
    paths = [tmp_path / f"{num_rows}.{language}" for language in ("en", "fr")]
    for path in paths:
        with path.open("w") as file:
            file.writelines(f"{number} ".ljust(LINE_BYTES // 2 - 1, "x") + "\n" for number in range(num_rows))
    output = tmp_path / f"out-{num_rows}"
    shares = ["--test_share", "0", "--validation_share", "0"]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, "data/translation.py", "--files", *paths, "--output_dir", output, *shares],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    with (output / "train.jsonl").open() as rows:
        assert sum(len(json.loads(row)["source"]) > LINE_BYTES // 3 for row in rows) == num_rows
    for path in (*paths, output / "train.jsonl"):
        path.unlink()
    return int(done.stdout.splitlines()[-1])


def test_files_of_220_mb_are_prepared_in_the_memory_of_2_mb(tmp_path):
    assert peak_bytes(tmp_path, 2200) - peak_bytes(tmp_path, 20) < 20 * 2**20
