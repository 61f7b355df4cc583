"""The comparison with other systems: its table, the lines it counts, and NVFlare that cannot be installed."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.__main__ import lines_of_code
from tests.conftest import PROJECT


def peers(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.peers", *options]
    return subprocess.run(command, cwd=PROJECT, env=os.environ | environment, capture_output=True, text=True)


def test_a_table_with_a_row_for_each_system() -> None:
    found = peers("--clients", "2", "--rounds", "2", "--systems", "this", "pooled")
    assert found.returncode == 0, found.stderr
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in found.stdout.splitlines() if line.startswith("|")]
    this, pooled = rows[2:]
    assert this[0].startswith("this") and pooled[0].startswith("no federation")
    for row in (this, pooled):
        assert row[1] == "2"
        assert float(row[2].removesuffix(" s")) > float(row[3].removesuffix(" s")) > 0  # round 1 includes the start
        assert 100 < int(row[4].removesuffix(" MB").replace(",", "")) < 5000
        assert 0 <= float(row[7]) <= 1
    assert [this[5], pooled[5]] == ["3", "1"]  # processes
    assert [this[6], pooled[6]] == ["0", str(lines_of_code(PROJECT / "benchmarks" / "peers" / "pooled.py"))]


def test_blank_lines_and_comments_are_no_code(tmp_path: Path) -> None:
    file = tmp_path / "job.py"
    file.write_text("# a job\n\nimport sys\n\n    # deeper\nprint(sys.path)  # shown\n")
    assert lines_of_code(file) == 2


def test_without_the_registry_a_sentence_says_what_to_do(tmp_path: Path) -> None:
    nowhere = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:9", "PIP_RETRIES": "0"}
    found = peers("--systems", "nvflare", XDG_CACHE_HOME=str(tmp_path), **nowhere)
    assert found.returncode == 2 and not found.stdout
    assert "NVFlare could not be installed from the package registry" in found.stderr and "--systems" in found.stderr
    assert "Traceback" not in found.stderr
