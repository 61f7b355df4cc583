"""Whether this machine is fit for a federation: `doctor`. Each finding comes with its remedy."""
from __future__ import annotations

import json
import locale
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from fedtui.cleaning import clean
from fedtui.cli.context import Json, project
from fedtui.cli.output import STATES, paint, write_json
from fedtui.memory_rules import UNKNOWN, beyond_limit
from fedtui.project import Project
from fedtui.version import version
from poweranger.errors import UserError

OK, WARN, FAIL = "ok", "warn", "fail"
PACKAGES = ("flwr", "tensorflow", "numpy", "textual", "plotext", "tomlkit", "typer", "starlette", "uvicorn", "psutil")
CLIENT_MB = 500  # a client of its own, images not counted
SERVER_MB = 150
TENSORFLOW_S = 120.0

# Run in a process of its own: importing TensorFlow takes seconds, a broken driver may crash it, and a GPU's memory
# belongs to whoever has touched it until that process ends.
ASK_TENSORFLOW = """
import json, tensorflow as tf
print(json.dumps({"version": tf.__version__, "cuda": tf.test.is_built_with_cuda(),
                  "gpus": [d.name for d in tf.config.list_physical_devices("GPU")]}))
"""


@dataclass(frozen=True)
class Finding:
    """What one check found; `remedy` is what to do when it is not ok."""

    name: str
    state: str
    detail: str
    remedy: str = ""


def doctor(as_json: Json = False) -> None:
    """Check this machine. That is Python, packages, TensorFlow and GPU, port, keys, disk, memory, log-out and terminal."""
    found = []
    for check in CHECKS:
        for finding in check(project()):
            found.append(finding)
            if not as_json:
                _print(finding)
    if as_json:
        write_json([asdict(finding) for finding in found])
    raise typer.Exit(1 if any(finding.state == FAIL for finding in found) else 0)


def check_python(_: Project) -> list[Finding]:
    """The interpreter that also runs server and clients."""
    text = f"{sys.version.split()[0]} in {sys.prefix}"
    if (3, 11) <= sys.version_info < (3, 14):
        return [Finding("Python", OK, text)]
    return [Finding("Python", FAIL, text, "use Python 3.11, 3.12 or 3.13: ./quick_start.sh makes an environment with it")]


def check_packages(_: Project) -> list[Finding]:
    """Whether all packages are there; which versions fit is the lock file's business."""
    missing = [name for name in PACKAGES if version(name) == "not installed"]
    if missing:
        return [Finding("packages", FAIL, f"missing: {', '.join(missing)}", f"{_quote(sys.executable)} -m pip install -r requirements.txt")]
    return [Finding("packages", OK, ", ".join(f"{name} {version(name)}" for name in PACKAGES))]


def check_tensorflow(_: Project) -> list[Finding]:
    """Whether TensorFlow can be imported, and whether it sees the GPUs that the driver sees."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", ASK_TENSORFLOW], env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=TENSORFLOW_S
        )
        answer = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return [Finding("TensorFlow", FAIL, f"no answer within {TENSORFLOW_S:g} s", "look for a stuck GPU driver (nvidia-smi) or a slow disk")]
    except (IndexError, ValueError):
        words = done.stderr.decode(errors="replace").strip().splitlines()
        reason = words[-1] if words else f"exit code {done.returncode}"
        return [Finding("TensorFlow", FAIL, reason, f"{_quote(sys.executable)} -m pip install -r requirements.txt")]
    driver = _nvidia_gpus()
    gpus, seen = len(answer["gpus"]), len(driver)
    if gpus:
        gpu = Finding("GPU", OK, f"{gpus}: {', '.join(driver) or ', '.join(answer['gpus'])}")
    elif seen:
        remedy = "pip install 'federated-health[gpu]'" if not answer["cuda"] else "compare the driver's CUDA version (nvidia-smi) with what TensorFlow wants"
        gpu = Finding("GPU", WARN, f"the driver has {', '.join(driver)}, but TensorFlow sees none", remedy)
    else:
        gpu = Finding("GPU", OK, "none: clients train on the CPU")
    return [Finding("TensorFlow", OK, answer["version"]), gpu]


def check_port(project: Project) -> list[Finding]:
    """Whether the server can listen where the roster says."""
    from fedtui.client import DaemonClient
    from fedtui.daemon.port import holder, refusal

    roster = project.roster()
    if not roster.server_local:
        return [Finding("port", OK, roster.elsewhere)]
    found = holder(roster.host, roster.port)
    if found is None:
        return [Finding("port", OK, f"{roster.server_address} is free")]
    client = DaemonClient(project)
    if found.pid and client.running() and found.pid in [process["pid"] for process in client.processes()]:
        return [Finding("port", OK, f"{roster.server_address} is this project's server's")]
    detail, _, remedy = refusal(roster.host, roster.port).rpartition(": ")
    return [Finding("port", FAIL, detail, remedy)]


def check_keys(project: Project) -> list[Finding]:
    """Keys and certificates: whether others can read them, when they end, and whether a server open to the network has any."""
    roster, folder = project.roster(), project.keys
    if not folder.path.is_dir():
        if roster.server_local and roster.host not in ("127.0.0.1", "::1", "localhost"):
            return [Finding("keys", WARN, f"none: {roster.server_address} is open to the network without TLS", "fedtui keys init --name HOST")]
        return [Finding("keys", OK, "none: they are for federations over several machines")]
    from fedtui.keys import expiry_notes, list_keys

    open_to_others = [path for path in (folder.path, *sorted(folder.path.rglob("*.key"))) if path.stat().st_mode & 0o077]
    if open_to_others:
        return [Finding("keys", FAIL, f"others can read {', '.join(map(str, open_to_others))}", f"chmod -R go= {_quote(folder.path)}")]
    at_server = folder.ca_key.exists()
    remedy = "put a copy of it back; fedtui keys renew --name HOST makes the server's anew" if at_server else f"rm -f {_quote(folder.ca)}, then fedtui keys import the site's file again"
    gone = [path for path in (folder.ca, *([folder.server, folder.server_key] if at_server else [])) if not path.exists()]
    if gone:
        return [Finding("keys", FAIL, f"{gone[0]} is gone", remedy)]
    try:
        state = FAIL if any(row.state == "expired" for row in list_keys(project)) else WARN
    except UserError as error:  # a damaged certificate
        return [Finding("keys", FAIL, str(error), remedy)]
    notes = [Finding("keys", state, *note.split(": ", 1)) for note in expiry_notes(project)]
    return notes or [Finding("keys", OK, f"in {folder.path}; nothing ends within 30 days")]


def check_disk(project: Project) -> list[Finding]:
    """Room for results and logs."""
    folder = project.results if project.results.is_dir() else project.root
    free = shutil.disk_usage(folder).free / 1e9
    text = f"{free:.1f} GB free in {folder}"
    if not os.access(folder, os.W_OK):
        return [Finding("disk", FAIL, f"{folder} cannot be written", "give this user the right to, or copy the project to a folder of its own")]
    if free < 0.2:
        return [Finding("disk", FAIL, text, "make room: a run needs some MB a round, logs up to 200 MB a process")]
    return [Finding("disk", OK if free > 2 else WARN, text, "" if free > 2 else "make room before a long run")]


def check_memory(project: Project) -> list[Finding]:
    """Whether server and roster fit, into the machine and into the cgroup that a batch system or container sets."""
    from fedtui.daemon.cgroups import own_groups
    from fedtui.daemon.guard.readings import MB, Meter

    roster, reading = project.roster(), Meter().read()
    count = len(roster.effective())
    wanted = SERVER_MB + count * CLIENT_MB
    need = f"server and {count} clients want about {wanted / 1024:.1f} GB, and room for their images"
    remedy = "end other programs, start fewer clients (fedtui up --clients N), or lower batch-size and image-size"
    if not (reading.total_mb or reading.group):
        return [Finding("memory", WARN, f"{UNKNOWN}; {need}", "start as many clients as surely fit: the memory guard cannot act here")]
    if roster.memory.guard and (text := beyond_limit(roster.memory.reserve(reading.limit_mb), reading.limit_mb)):
        detail, _, remedy = text.rpartition(": ")
        return [Finding("memory", FAIL, detail, remedy)]
    room = reading.available_mb
    limit = min((limit / MB for group in own_groups() if (limit := group.limit) is not None), default=None)
    found = [Finding("memory", OK if room > wanted else WARN, f"{room / 1024:.1f} GB available; {need}", remedy if room <= wanted else "")]
    if limit is None:
        return [*found, Finding("cgroup limit", OK, "none")]
    tight = limit <= wanted
    text = f"{limit / 1024:.1f} GB at most for everything of this session; {need}"
    return [*found, Finding("cgroup limit", WARN if tight else OK, text, "ask the batch system or container for more memory" if tight else "")]


def check_logout(_: Project) -> list[Finding]:
    """Whether the system ends a user's processes at log-out, which would end daemon and run, too."""
    if not Path("/run/systemd/system").is_dir():
        return [Finding("log-out", OK, "no systemd here: processes outlive the session")]
    linger = Path("/var/lib/systemd/linger", _user()).exists()
    text = "linger is on" if linger else "linger is off"
    if not kills_user_processes(Path("/")):
        return [Finding("log-out", OK, f"KillUserProcesses=no: processes outlive the session ({text})")]
    remedy = "run the daemon as a service of yours (docs/systemd.md)" + ("" if linger else " after `loginctl enable-linger`")
    return [Finding("log-out", WARN, f"KillUserProcesses=yes ends everything at log-out ({text})", remedy)]


def check_terminal(_: Project) -> list[Finding]:
    """Whether the interface can be shown here."""
    if not sys.stderr.isatty():
        return [Finding("terminal", OK, "none: commands work, the interface needs one")]
    size = os.get_terminal_size(sys.stderr.fileno())
    kind, encoding = os.environ.get("TERM", ""), locale.getpreferredencoding(False)
    text = f"{kind or 'TERM is unset'}, {size.columns}x{size.lines}, {encoding}"
    if kind in ("", "dumb"):
        return [Finding("terminal", WARN, text, "export TERM=xterm-256color")]
    if size.columns < 80 or size.lines < 24:
        return [Finding("terminal", WARN, text, "make the window at least 80x24")]
    if encoding.upper().replace("-", "") != "UTF8":
        return [Finding("terminal", WARN, text, "export LANG=C.UTF-8: charts and accents need UTF-8")]
    return [Finding("terminal", OK, text)]


CHECKS: tuple[Callable[[Project], list[Finding]], ...] = (
    check_python, check_packages, check_tensorflow, check_port, check_keys, check_disk, check_memory, check_logout, check_terminal,
)  # fmt: skip


def kills_user_processes(root: Path) -> bool:
    """What logind.conf and its drop-ins under `root` set for KillUserProcesses; systemd's default in distributions is no."""
    value = "no"
    main = [path for base in ("etc", "run", "usr/lib") if (path := root / base / "systemd/logind.conf").is_file()]
    drop_ins = {path.name: path for base in ("usr/lib", "run", "etc") for path in (root / base / "systemd/logind.conf.d").glob("*.conf")}
    for path in [*main[:1], *(drop_ins[name] for name in sorted(drop_ins))]:
        for match in re.finditer(r"^\s*KillUserProcesses\s*=\s*(\S*)", path.read_text(errors="replace"), re.MULTILINE):
            value = match[1].lower() or "no"
    return value in ("yes", "true", "1", "on")


def _print(finding: Finding) -> None:
    print(f"{paint(finding.state.ljust(4), STATES[finding.state])}  {finding.name.ljust(12)}  {clean(finding.detail)}")
    if finding.remedy:
        print(f"{' ' * 20}-> {clean(finding.remedy)}")
    sys.stdout.flush()


def _nvidia_gpus() -> list[str]:
    """The GPUs that NVIDIA's driver knows, by name."""
    found = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        match = re.search(r"^Model:\s*(.+)$", path.read_text(errors="replace"), re.MULTILINE)
        found.append(match[1].strip() if match else path.parent.name)
    return found


def _quote(path: Path | str) -> str:
    """As a shell takes it."""
    return shlex.quote(str(path))


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name
