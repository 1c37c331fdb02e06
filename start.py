"""Make the environment, draw a sample library, find its planted errors and open the page, on Linux, macOS and Windows.

    python start.py              all of it (Windows: py start.py)
    python start.py --no-serve   end after the reports
    python start.py serve        the page again, with the decisions made so far
    python start.py test         install what the tests need and run them
    python start.py doctor       what is ready and what is not
    python start.py install      the environment alone

Reads   requirements.txt, requirements.lock
Writes  .venv/, and demo/ (the sample library and its data)

Needs Python 3.11 or newer and nothing else. Says what it downloads, and how much, before it does.
"""

from __future__ import annotations

import platform
import sys

if __name__ == "__main__":
    if sys.hexversion < 0x30B0000:
        this = platform.python_version()
        sys.exit(f"error: Python 3.11 or newer is needed, this is {this}: run start.py with another")
    from tagcheck import interruption

    interruption.end_at_once()

import argparse
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
import webbrowser
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tagcheck import script
from tagcheck.errors import ToolError

PROJECT = Path(__file__).resolve().parent
VENV = PROJECT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
REQUIREMENTS, TEST_REQUIREMENTS = PROJECT / "requirements.txt", PROJECT / "tests" / "requirements.txt"
LOCK = PROJECT / "requirements.lock"
CPU_BUILD = "https://download.pytorch.org/whl/cpu"
RUNTIME = "Microsoft's Visual C++ Redistributable, https://aka.ms/vs/17/release/vc_redist.x64.exe"
DRAWING = ".library.drawing"  # which a first run that was stopped leaves behind
MEGA = 1_000_000
GRACE = 5  # seconds in which a stage that Ctrl-C has reached ends by itself


class Failed(ToolError):
    """A step failed; its words are for the owner, `code` ends this program."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = code


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = script.plain_parser(__doc__)
    stages = ("demo", "serve", "test", "doctor", "install")
    parser.add_argument("what", nargs="?", default="demo", choices=stages, help="what to do (default: demo)")
    parser.add_argument("--no-serve", action="store_true", help="end after the reports (default: open the page)")
    parser.add_argument(
        "--port", type=script.bounded(int, 1, 65535), metavar="N", default=5000, help="port of the page (default: 5000)"
    )
    demo = "where the sample library and its data go (default: demo)"
    parser.add_argument("--demo", metavar="DIR", type=script.place, default="demo", help=demo)
    build = "which build of PyTorch: the small one for the processor alone, or the default one of this system"
    build += " (default: auto, cpu where there is no NVIDIA card)"
    parser.add_argument("--torch", choices=("auto", "cpu", "default"), default="auto", help=build)
    parser.add_argument("--tests", action="store_true", help="with install: what the tests need, too (default: no)")
    locked = "exactly the files that requirements.lock names, each checked by its hash (default: no)"
    parser.add_argument("--locked", action="store_true", help=locked)
    args, rest = parser.parse_known_args(argv)
    args.rest = rest
    if args.rest and args.what != "test":
        parser.error(f"what is {' '.join(args.rest)}? (options of pytest go with 'test' alone)")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    make_environment(args.torch, args.locked)
    if args.what == "test" or args.tests:
        install(TEST_REQUIREMENTS, "what the tests need")
    if args.what == "doctor":
        return subprocess.call([PYTHON, PROJECT / "config.py", "--check"], env=environment())
    if args.what == "test":
        # A process for each processor, and one that works while others wait, each with one thread: threads of torch that
        # wait for each other gain nothing here.
        spread = ["-n", str((os.cpu_count() or 1) + 1), "--dist", "loadfile", "--no-loadscope-reorder"]
        one_thread = {"OMP_NUM_THREADS": "1", **environment()}
        one_thread.pop("PYTHONDONTWRITEBYTECODE", None)  # the tests start many processes: compile the modules once
        return subprocess.call([PYTHON, "-m", "pytest", *spread, *args.rest], cwd=PROJECT, env=one_thread)
    demo = args.demo
    if args.what == "demo":
        run_stages(demo)
    if args.what == "serve" or (args.what == "demo" and not args.no_serve):
        serve(demo, args.port)
    return 0


# --- the environment -----------------------------------------------------------------------------------


def make_environment(torch: str, locked: bool = False) -> None:
    """`.venv` with everything in requirements.txt, or requirements.lock; nothing where it is there already."""
    if not PYTHON.exists():
        say(f"making the environment {VENV} with Python {platform.python_version()}")
        try:
            import ensurepip
            import venv
        except ImportError:
            raise Failed("Python's venv module is missing (Debian, Ubuntu: apt-get install python3-venv)") from None
        say(f"(pip {ensurepip.version()} comes with this Python)")
        for requirements in (REQUIREMENTS, TEST_REQUIREMENTS):  # of an environment whose Python is gone
            mark(requirements)[0].unlink(missing_ok=True)
        venv.create(VENV, with_pip=True)
    if locked and not installed(REQUIREMENTS):
        install(REQUIREMENTS, "what the scripts need", LOCK, "--require-hashes", "--no-deps")
    elif not installed(REQUIREMENTS):
        if torch == "cpu" or (torch == "auto" and has_small_build() and not has_card()):
            install_cpu_build(chosen=torch == "cpu")
        install(REQUIREMENTS, "what the scripts need")


def has_small_build() -> bool:
    """Whether this system's default build of PyTorch is for NVIDIA cards, so that another one is smaller."""
    return sys.platform == "linux" and platform.machine().lower() in ("x86_64", "amd64")


def has_card() -> bool:
    """Whether there is an NVIDIA card with its driver."""
    if Path("/proc/driver/nvidia/version").exists():
        return True
    tool = shutil.which("nvidia-smi")
    return tool is not None and subprocess.run([tool, "-L"], capture_output=True).returncode == 0


def install_cpu_build(chosen: bool) -> None:
    """PyTorch for the processor alone, where it is available; else what requirements.txt brings."""
    builds = cpu_builds()
    small = "PyTorch's build for the processor alone"
    if builds:
        size = sum(map(size_of, builds.values())) / MEGA
        say(f"no NVIDIA card: taking {small}, {size:,.0f} MB (--torch default takes the other)")
        if pip("install", *builds, "--index-url", CPU_BUILD).returncode == 0:
            return
    if chosen:
        raise Failed(f"{small} is not available from {CPU_BUILD}: leave out --torch cpu")
    say(f"{small} is not available here: the default one is installed (about 3 GB)")


def cpu_builds() -> dict[str, str]:
    """The newest builds of torch and torchvision that belong together, as requirements, with their addresses; {} for none."""
    found = {name: wheels(name) for name in ("torch", "torchvision")}
    for major, minor, patch in sorted(found["torch"], reverse=True):
        beside = [version for version in found["torchvision"] if version[:2] == (0, minor + 15)]
        if major == 2 and beside:
            pair = {"torch": (major, minor, patch), "torchvision": max(beside)}
            return {f"{name}=={'.'.join(map(str, one))}+cpu": found[name][one] for name, one in pair.items()}
    return {}


def wheels(name: str) -> dict[tuple[int, ...], str]:
    """The versions of a package in the list of small builds that fit this Python and system, with their addresses."""
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    try:
        with urllib.request.urlopen(f"{CPU_BUILD}/{name}/", timeout=15) as answer:
            page = answer.read().decode("utf-8", "replace")
    except (OSError, ValueError):
        return {}
    file = rf"{name}-(\d+)\.(\d+)\.(\d+)(?:%2B|\+)cpu-{tag}-{tag}-(?:manylinux_\d+_\d+|linux)_x86_64\.whl"
    pattern = rf'href="([^"#]*/{file})'
    return {
        (int(major), int(minor), int(patch)): urllib.parse.urljoin(f"{CPU_BUILD}/{name}/", url)
        for url, major, minor, patch in re.findall(pattern, page)
    }


def install(requirements: Path, words: str, lock: Path | None = None, *options: str) -> None:
    """Install a list of requirements, after saying what it takes; from its `lock` where one is named."""
    if installed(requirements):
        return
    source = lock or requirements
    say(f"{words}: {download(source, *options)}")
    if pip("install", *options, "-r", str(source)).returncode:
        raise Failed(f"{source.name} could not be installed: see above, then run the same command again")
    if requirements == REQUIREMENTS:
        check_torch()
    path, digest = mark(requirements)
    path.write_text(digest, encoding="utf-8")


def check_torch() -> None:
    """Raise `Failed` where PyTorch cannot be loaded: on Windows it needs libraries of Microsoft's that Python does not bring."""
    tried = subprocess.run([PYTHON, "-c", "import torch"], stderr=subprocess.PIPE, env=environment())
    if tried.returncode:
        why = tried.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2].strip()
        way_out = f"install {RUNTIME}" if os.name == "nt" else "see what is wrong there"
        raise Failed(f"PyTorch is installed and cannot be loaded ({why}): {way_out}, then run the same command again")


def download(requirements: Path, *options: str) -> str:
    """How much pip would fetch for these requirements, in words."""
    report = pip("install", "--dry-run", "--report", "-", *options, "-r", str(requirements), quiet=True)
    try:
        found = json.loads(report.stdout)["install"]
        files = {one["metadata"]["name"]: one["download_info"]["url"] for one in found}
    except (ValueError, KeyError, TypeError):
        return "how much there is to download cannot be told beforehand"
    if not files:
        return "everything is here already"
    with ThreadPoolExecutor(8) as pool:
        sizes = dict(zip(files, pool.map(size_of, files.values())))
    known = {name: size for name, size in sizes.items() if size}
    largest = sorted(known, key=lambda name: -known[name])[:3]
    unknown = f" and {len(sizes) - len(known)} of unknown size" if len(known) < len(sizes) else ""
    told = ", ".join(f"{name} {known[name] / MEGA:,.0f} MB" for name in largest)
    total = f"{sum(known.values()) / MEGA:,.0f} MB{unknown}"
    return f"downloading {len(sizes)} packages, {total} (the largest: {told})"


def size_of(url: str) -> int:
    """The bytes of a file at an address; 0 where nobody tells."""
    try:
        if url.startswith("file:"):
            return Path(urllib.request.url2pathname(url.removeprefix("file://"))).stat().st_size
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10) as answer:
            return int(answer.headers.get("Content-Length") or 0)
    except (OSError, ValueError):
        return 0


def installed(requirements: Path) -> bool:
    """Whether this list, as it is now, was installed."""
    path, digest = mark(requirements)
    return path.exists() and path.read_text(encoding="utf-8") == digest


def mark(requirements: Path) -> tuple[Path, str]:
    """The file that says which list was installed, and what it says where that is this list as it is now."""
    name = ".installed-tests" if requirements == TEST_REQUIREMENTS else ".installed"
    return VENV / name, hashlib.sha256(requirements.read_bytes()).hexdigest()


def pip(*arguments: str, quiet: bool = False) -> subprocess.CompletedProcess[str]:
    """pip of the environment."""
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    if arguments[0] == "install":
        command.append("--quiet")
    return subprocess.run(command, text=True, encoding="utf-8", capture_output=quiet, env=environment())


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONUTF8": "1"}


# --- the sample ------------------------------------------------------------------------------------------


def run_stages(demo: Path) -> None:
    """Draw the sample library and run every stage on it, then compare with what was planted."""
    if demo.exists() and not {one.name for one in demo.iterdir()} <= {DRAWING} and not (demo / "planted.json").exists():
        raise Failed(f"{demo} holds something else than a sample: name another folder with --demo", 2)
    shutil.rmtree(demo, ignore_errors=True)
    data = ["--data-dir", str(demo / "data")]
    stage("sample/draw_library.py", str(demo))
    began = time.monotonic()
    stage("dataset_hardcore_mapper.py", *data, "--library", str(demo / "library"))
    stage("advanced_joytag_processing.py", *data, "--model-dir", str(PROJECT / "sample" / "network"))
    stage("train_series_classifier_images.py", *data)
    stage("run_error_detection.py", *data)
    print(f"the stages took {time.monotonic() - began:.0f} seconds", flush=True)
    stage("sample/compare_with_planted.py", "--planted", str(demo / "planted.json"), *data)


def stage(name: str, *arguments: str) -> None:
    say(" ".join(["python", name, *arguments]))
    process = subprocess.Popen([str(PYTHON), str(PROJECT / name), *arguments], env=environment())
    try:
        code = process.wait()
    except KeyboardInterrupt:
        code = end_of(process)
    if code:
        raise Failed(f"{name} ended with {code}: see above", code)


def end_of(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a stage after Ctrl-C, which reached it too: it finishes what is in hand. One that it did not reach is told."""
    try:
        return process.wait(GRACE)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.terminate()
        return process.wait()


def serve(demo: Path, port: int) -> None:
    """Serve the page until Ctrl-C, and show it where there is a screen."""
    if not (demo / "data").is_dir():
        raise Failed(f"no {demo / 'data'}: run start.py without 'serve' first", 3)
    if answers(port):  # else the browser would be shown that one
        airplay = " (AirPlay Receiver has 5000 on macOS)" if sys.platform == "darwin" else ""
        raise Failed(f"another program answers on port {port}{airplay}: end it or choose another --port")
    if os.name == "nt" or sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        threading.Thread(target=show, args=(port,), daemon=True).start()
    stage("webapp/app.py", "--data-dir", str(demo / "data"), "--port", str(port))


def show(port: int) -> None:
    """Open the page in the browser once it answers."""
    for _ in range(300):
        if answers(port):
            webbrowser.open(f"http://localhost:{port}/error-review")
            return
        time.sleep(0.2)


def answers(port: int) -> bool:
    """Whether a program answers on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def say(message: str) -> None:
    script.say(f"start: {message}")


if __name__ == "__main__":
    script.run(main)
