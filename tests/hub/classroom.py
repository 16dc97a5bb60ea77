"""Measures a class on JupyterHub: 20 learners start kernels at once and run cells; then all kernels are culled.

    tests/hub/classroom [--users 20]

prints the time until the kernels answer and the times of cells. It also prints each kernel's memory (PSS, with its
largest parts) and disk space. It fails if a process remains. All users are the same system user, each with a separate home
folder (SimpleLocalProcessSpawner), because the tests do not create system users.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

import aiohttp

ROOT = Path(__file__).resolve().parent.parent.parent
HEADSTART = Path(os.environ["CARGO_TARGET_DIR"]) / "release" / "headstart"
TOKEN = "0123456789abcdef0123456789abcdef"
hub_process = None
# Cells that a learner runs in the first minutes.
CELLS = [
    "let x = random_uniform((4, 3, 64, 64), 0.0, 255.0)?;",
    "let base = Vgg16::new(Weights::Demo).include_top(false).build()?;",
    "base.freeze();",
    "let features = base.forward(&base.preprocess(&x)?, Mode::Inference)?;",
    "features.dims().to_vec()",
    "let mean = features.mean_all()?.to_scalar::<f32>()?;",
    'println!("{mean:.3}");',
    "let doubled: Vec<i32> = (1..5).map(|n| n * 2).collect();",
    "doubled.iter().sum::<i32>()",
    "let model = sequential![&base, Flatten, Dense::new(2).activation(Softmax)]?;",
    "model.summary()",
    "model.predict(&base.preprocess(&x)?)?",
]


def configuration(folder, cull):
    """The shipped configuration, with changes for the test: users without passwords, and early culling."""
    path = folder / "jupyterhub_config.py"
    path.write_text(
        f"""
load_subconfig({str(ROOT / "kernel/package/jupyterhub_config.py")!r})
c = get_config()
c.JupyterHub.bind_url = "http://127.0.0.1:{free_port()}"
c.JupyterHub.hub_port = {free_port()}
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{free_port()}"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = {str(folder / "home")!r} + "/{{username}}"
c.JupyterHub.concurrent_spawn_limit = 0
c.JupyterHub.services = [{{"name": "class", "api_token": "{TOKEN}"}}]
c.JupyterHub.load_roles = [{{"name": "class", "scopes": ["admin:users", "admin:servers", "access:servers"], "services": ["class"]}}]
c.Spawner.environment.update({kept()!r})
c.Spawner.args = [
    argument
    for argument in c.Spawner.args.get_value([])
    if "cull_" not in argument
] + ["--MappingKernelManager.cull_idle_timeout={cull}", "--MappingKernelManager.cull_interval=2",
     "--MappingKernelManager.cull_connected=True", "--allow-root"]
"""
    )
    return path


def kept():
    """The environment of the users' servers. They have other home folders, but use this user's Rust."""
    wanted = ("PATH", "JUPYTER_PATH", "LANG", "RUSTUP_TOOLCHAIN")
    known = {name: os.environ[name] for name in wanted if name in os.environ}
    return known | {"RUSTUP_HOME": os.environ.get("RUSTUP_HOME", str(Path.home() / ".rustup"))}


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def processes():
    """Parent and command line of each process."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2]
                if state != "Z":
                    found[int(entry.name)] = (int(parent), (entry / "cmdline").read_bytes().split(b"\0"))
            except OSError:
                pass
    return found


def below(root, known):
    """A process and all processes below it."""
    found = [root]
    for process in found:
        found.extend(child for child, (parent, _) in known.items() if parent == process)
    return found


def kernels(home, known):
    """The kernels whose home folder is below a folder: those that run the command `kernel`."""
    found = []
    for process, (_, command) in known.items():
        if len(command) > 1 and command[0].endswith(b"headstart") and command[1] == b"kernel":
            try:
                environment = Path(f"/proc/{process}/environ").read_bytes()
            except OSError:
                continue
            if f"\0HOME={home}/".encode() in b"\0" + environment:
                found.append(process)
    return found


def pss(process):
    """Proportional memory of a process in MB, by what it holds."""
    parts = Counter()
    name = None
    try:
        text = Path(f"/proc/{process}/smaps").read_text()
    except OSError:
        return parts
    for line in text.splitlines():
        mapping = re.match(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+\s*(.*)", line)
        if mapping:
            path = mapping[1]
            name = "anonymous" if path in ("", "[heap]", "[stack]") or path.startswith("[anon") else Path(path).name
            if path.startswith("/") and ".so" not in name and "headstart" not in name:
                name = "other files"
            elif "libcode_" in name or re.match(r"lib(user|evcxr|code)", name):
                name = "cells"
        elif line.startswith("Pss:"):
            parts[name] += int(line.split()[1]) / 1024
    return parts


class Hub:
    def __init__(self, folder, session):
        self.session = session
        text = (folder / "jupyterhub_config.py").read_text()
        self.url = re.search(r'bind_url = "([^"]+)"', text)[1]
        self.headers = {"Authorization": f"token {TOKEN}"}

    async def api(self, method, path, ok=(200, 201, 202, 204), **options):
        async with self.session.request(method, self.url + path, headers=self.headers, **options) as reply:
            body = await reply.text()
            assert reply.status in ok, f"{method} {path}: {reply.status} {body}"
            return json.loads(body) if body else None

    async def start_server(self, user):
        await self.api("POST", f"/hub/api/users/{user}", ok=(201, 409))
        await self.api("POST", f"/hub/api/users/{user}/server")
        while True:
            about = await self.api("GET", f"/hub/api/users/{user}")
            if about["servers"].get("", {}).get("ready"):
                return
            await asyncio.sleep(0.2)

    async def start_kernel(self, user):
        begin = time.monotonic()
        kernel = await self.api("POST", f"/user/{user}/api/kernels", json={"name": "headstart"})
        url = f"{self.url}/user/{user}/api/kernels/{kernel['id']}/channels".replace("http", "ws", 1)
        socket = await self.session.ws_connect(url, headers=self.headers, max_msg_size=0, heartbeat=30)
        self_time = await run(socket, "1 + 1")
        return socket, time.monotonic() - begin, self_time


async def run(socket, code):
    """Run a cell and return its time in seconds."""
    identity = uuid.uuid4().hex
    begin = time.monotonic()
    await socket.send_json(
        {
            "header": {"msg_id": identity, "msg_type": "execute_request", "username": "", "session": "class", "version": "5.3"},
            "parent_header": {},
            "metadata": {},
            "channel": "shell",
            "content": {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False},
        }
    )
    status, idle = None, False
    while not (status and idle):
        message = await asyncio.wait_for(socket.receive_json(), 600)
        if message["parent_header"].get("msg_id") != identity:
            continue
        if message["msg_type"] == "execute_reply":
            status = message["content"]["status"]
            assert status == "ok", message["content"]
        idle |= message["msg_type"] == "status" and message["content"]["execution_state"] == "idle"
    return time.monotonic() - begin


async def lesson(socket, pause):
    """Runs the cells as a learner does: with pauses between them."""
    times = []
    for at, code in enumerate(CELLS):
        await asyncio.sleep(pause * (0.5 + (hash((id(socket), at)) % 100) / 100))
        times.append(await run(socket, code))
    return times


def size(folder):
    """Size on disk in MB; a file with several links counts once."""
    seen, total = set(), 0
    for path in folder.rglob("*"):
        about = path.lstat()
        if about.st_ino not in seen:
            seen.add(about.st_ino)
            total += about.st_blocks * 512
    return total / 1e6


def p95(times):
    return sorted(times)[max(0, -(-len(times) * 95 // 100) - 1)]


async def measure(folder, users, pause, cull):
    home = folder / "home"
    home.mkdir()
    log = open(folder / "hub.log", "w")
    global hub_process
    hub_process = subprocess.Popen(
        [sys.executable, "-m", "jupyterhub", "-f", configuration(folder, cull)], cwd=folder, stdout=log, stderr=log
    )
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:
        hub = Hub(folder, session)
        while True:
            assert hub_process.poll() is None, (folder / "hub.log").read_text()[-3000:]
            try:
                await hub.api("GET", "/hub/api/")
                break
            except (aiohttp.ClientError, AssertionError):
                await asyncio.sleep(0.3)
        names = [f"learner{number:02}" for number in range(users)]
        begin = time.monotonic()
        await asyncio.gather(*(hub.start_server(name) for name in names))
        print(f"{users} servers started in {time.monotonic() - begin:.1f} s", flush=True)
        started = await asyncio.gather(*(hub.start_kernel(name) for name in names))
        starts = [duration for _, duration, _ in started]
        print(f"kernels started together: first cell after {statistics.median(starts):.1f} s (median), {max(starts):.1f} s (last)")
        sockets = [socket for socket, _, _ in started]
        await asyncio.sleep(20)  # rust-analyzer is loaded in the background
        known = processes()
        running = kernels(home, known)
        assert len(running) == users, (len(running), users)
        report_memory("n idle kernel", [below(kernel, known) for kernel in running])
        times = [time for times in await asyncio.gather(*(lesson(socket, pause) for socket in sockets)) for time in times]
        print(f"cells of {users} learners, a cell every {pause:.0f} s each: median {statistics.median(times):.2f} s, p95 {p95(times):.2f} s, longest {max(times):.2f} s")
        known = processes()
        report_memory(" kernel after the lesson", [below(kernel, known) for kernel in kernels(home, known)])
        disks = [size(home / name / ".cache") for name in names]
        print(f"disk per learner: {statistics.median(disks):.0f} MB (median), {max(disks):.0f} MB (largest)")
        mine = [process for kernel in running for process in below(kernel, known)]
        end = time.monotonic() + cull + 120
        while kernels(home, processes()) and time.monotonic() < end:
            await asyncio.sleep(1)
        left = [process for process in mine if process in processes()]
        sessions = [path for name in names for path in (home / name / ".cache/headstart/sessions").glob("*") if path.is_dir()]
        print(f"after culling: {len(left)} processes and {len(sessions)} sessions are left")
        for socket in sockets:
            await socket.close()
    known = processes()
    servers = below(hub_process.pid, known)
    hub_process.send_signal(signal.SIGTERM)
    hub_process.wait(60)
    await asyncio.sleep(3)
    left += [process for process in servers if process in processes()]
    print(f"after the hub's end: {len(left)} processes are left")
    return not left


def report_memory(what, trees):
    totals = [sum((pss(process) for process in tree), Counter()) for tree in trees]
    sums = [sum(parts.values()) for parts in totals]
    print(f"PSS of a{what}: {statistics.median(sums):.0f} MB (median of {len(sums)}), {max(sums):.0f} MB (largest)")
    whole = sum(totals, Counter())
    largest = ", ".join(f"{name} {value / len(trees):.0f} MB" for name, value in whole.most_common(6))
    print(f"    made of: {largest}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--pause", type=float, default=20.0, help="average seconds between two cells of a learner")
    parser.add_argument("--cull", type=int, default=90, help="idle seconds after which a kernel ends")
    arguments = parser.parse_args()
    # The hub ends with this program.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = Path(tempfile.mkdtemp(prefix="headstart-class-"))
    try:
        clean = asyncio.run(measure(folder, arguments.users, arguments.pause, arguments.cull))
    except BaseException:
        print((folder / "hub.log").read_text()[-5000:], file=sys.stderr)
        if hub_process:
            hub_process.terminate()
            hub_process.wait(60)
        raise
    shutil.rmtree(folder)
    sys.exit(not clean)


if __name__ == "__main__":
    main()
