"""What is left, read from file trees as kernels show them."""
from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedtui.daemon.cgroups import own_groups
from fedtui.daemon.guard.readings import MB, Meter
from fedtui.daemon.measure import Usage
from fedtui.daemon.proc import read_stat

GB = 1024 * MB
Tree = Callable[..., Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """`tree(cgroup=..., mountinfo=..., files=...)` is a `/proc` with 16 GB, 8 of them free; `files` lie below the cgroup mounts."""

    def make(cgroup: str = "", mountinfo: str = "", meminfo: str = "", files: dict[str, object] | None = None) -> Path:
        proc = tmp_path / "proc"
        (proc / "self").mkdir(parents=True)
        (proc / "meminfo").write_text(meminfo or f"MemTotal: {16 << 20} kB\nMemAvailable: {8 << 20} kB\nSwapTotal: 2048 kB\nSwapFree: 1024 kB\n")
        (proc / "self/cgroup").write_text(cgroup)
        (proc / "self/mountinfo").write_text(mountinfo.format(root=tmp_path))
        for name, content in (files or {}).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(str(content))
        return proc

    return make


V2 = "30 20 0:26 / {root}/cg rw - cgroup2 cgroup2 rw\n"
V1 = "35 31 0:32 {base} {root}/memory rw - cgroup cgroup rw,memory\n31 30 0:33 / {root}/cpu rw - cgroup cgroup rw,cpu\n"


def test_without_cgroups_the_machine_counts(tree: Tree) -> None:
    reading = Meter(tree()).read()
    assert (reading.available_mb, reading.limit_mb, reading.group) == (8192, 16384, "")
    assert (reading.swap_total_mb, reading.swap_used_mb) == (2, 1)
    assert reading.pressure is None and reading.to_json()["limit_mb"] is None


def test_version_2_the_tightest_of_all_levels_counts_without_what_can_be_dropped(tree: Tree) -> None:
    files = {
        "cg/user/memory.max": 4 * GB, "cg/user/memory.current": 3 * GB, "cg/user/memory.stat": f"anon 5\ninactive_file {GB}\n",
        "cg/user/job/memory.max": "max", "cg/user/job/memory.current": GB, "cg/user/job/memory.stat": "inactive_file 0\n",
    }
    reading = Meter(tree("0::/user/job\n", V2, files=files)).read()
    assert (reading.available_mb, reading.limit_mb) == (2048, 4096)
    assert reading.group.endswith("cg/user") and reading.to_json()["limit_mb"] == 4096


def test_version_2_memory_high_limits_too(tree: Tree) -> None:
    files = {"cg/job/memory.max": 4 * GB, "cg/job/memory.high": 2 * GB, "cg/job/memory.current": GB, "cg/job/memory.stat": "inactive_file 0\n"}
    assert Meter(tree("0::/job\n", V2, files=files)).read().available_mb == 1024


def test_version_1_and_a_container_that_sees_a_part_of_the_tree(tree: Tree) -> None:
    files = {
        "memory/job/memory.limit_in_bytes": 2 * GB, "memory/job/memory.usage_in_bytes": GB, "memory/job/memory.stat": f"inactive_file 1\ntotal_inactive_file {GB // 2}\n",
        "memory/memory.limit_in_bytes": 9223372036854771712, "memory/memory.usage_in_bytes": 9 * GB, "memory/job/memory.oom_control": "under_oom 0\noom_kill 3\n",
    }
    proc = tree("4:memory:/docker/abc/job\n1:cpu:/\n0::/\n", V1.replace("{base}", "/docker/abc"), files=files)
    reading = Meter(proc).read()
    assert (reading.available_mb, reading.limit_mb) == (1536, 2048)
    assert [group.oom_kills for group in own_groups(proc)] == [3, None]


def test_the_machine_counts_where_it_is_tighter_than_the_cgroup(tree: Tree) -> None:
    files = {"cg/job/memory.max": 100 * GB, "cg/job/memory.current": GB, "cg/job/memory.stat": "inactive_file 0\n"}
    assert Meter(tree("0::/job\n", V2, files=files)).read().group == ""


def test_pressure_is_the_group_s_own_where_it_tells(tree: Tree) -> None:
    lines = "some avg10={} avg60=2.00 avg300=1.00 total=9\nfull avg10={} avg60=1.00 avg300=0.50 total=3\n"
    files = {"proc/pressure/memory": lines.format(1, 2), "cg/job/memory.pressure": lines.format(40, 30)}
    reading = Meter(tree("0::/job\n", V2, files=files)).read()
    assert reading.stalled == 30 and reading.to_json()["pressure"] == {"avg10": 40, "avg60": 2, "avg300": 1}


@pytest.mark.parametrize("meminfo", ["nonsense", "MemTotal: 1024 kB\n"])
def test_what_cannot_be_read_does_not_limit(tree: Tree, meminfo: str) -> None:
    reading = Meter(tree("garbled", "also garbled", meminfo)).read()
    assert reading.available_mb == reading.limit_mb > 0


def test_between_two_measurements_only_what_a_process_takes_for_itself_counts(tmp_path: Path) -> None:
    """TensorFlow's libraries are most of a client's RSS, and clients share them."""
    (tmp_path / "library").write_bytes(bytes(40 * MB))
    program = """
import mmap, sys
file = open(sys.argv[1], "rb"); kept = []
for line in sys.stdin:
    kept.append(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) if line == "file\\n" else b"x" * (20 << 20))
    sum(kept[-1][::4096])
    print(flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program, tmp_path / "library"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin and child.stdout
        usage = Usage()

        def after(word: str) -> tuple[float, float]:
            child.stdin.write(f"{word}\n")
            child.stdin.flush()
            child.stdout.readline()
            usage.sample([read_stat(child.pid)])
            return usage.rss_mb, usage.use_mb

        rss, _ = after("memory")
        usage.measure([child.pid])
        begin = usage.use_mb
        more, used = after("file")
        assert more - rss > 35 and used - begin < 5
        assert after("memory")[1] - begin == pytest.approx(20, abs=5)
        child.stdin.close()
