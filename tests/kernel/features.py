"""Table of the features of Headstart's kernel, the stock kernel and ipykernel, as one client sees them.

    CARGO_TARGET_DIR=… python tests/kernel/features.py [headstart] [stock] [python3]

It is a survey, not a test: the tests check the features of Headstart's kernel.
"""

import multiprocessing
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from queue import Empty

import zmq
from jupyter_client.manager import KernelManager
from jupyter_client.session import Session

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from conftest import below, install_kernels  # noqa: E402

TIMEOUT = 120  # seconds for one feature of one kernel, with the start of the kernel

RUST = {
    "pass": "let a = 1;",
    "value": ("let n = 20;", "n", "20"),
    "error": 'panic!("boo");',
    "print": 'print!("one"); std::io::Write::flush(&mut std::io::stdout())?; std::thread::sleep(std::time::Duration::from_secs(1)); println!("two");',
    "loop": 'println!("begun"); for _ in 0..3000 { if CHECK { break; } std::thread::sleep(std::time::Duration::from_millis(10)); }',
    "sleep": "std::thread::sleep(std::time::Duration::from_secs(3));",
    "open": "fn f() {",
    "html": "struct H; impl H { fn evcxr_display(&self) { println!(\"EVCXR_BEGIN_CONTENT text/html\\n<b>h</b>\\nEVCXR_END_CONTENT\"); } } H",
    "name": "std::mem::swap",
    "stem": "std::mem::sw",
    "display": None,
    "update": None,
    "clear": None,
    "input": None,
}
HEADSTART = RUST | {
    "loop": RUST["loop"].replace("CHECK", "check_interrupt().is_err()"),
    "display": 'let d = display(&Text::new("first")); std::thread::sleep(std::time::Duration::from_secs(1));',
    "update": 'd.update(&Text::new("second"));',
    "clear": 'println!("x"); clear_output(false);',
    "input": 'println!("{}", input("name? ")?);',
}
STOCK = RUST | {
    "loop": RUST["loop"].replace("CHECK", "false"),
    "input": 'println!("EVCXR_INPUT_REQUEST:name? "); let mut s = String::new(); std::io::stdin().read_line(&mut s)?; println!("{s}");',
}
PYTHON = {
    "pass": "a = 1",
    "value": ("n = 20", "n", "20"),
    "error": "1 / 0",
    "print": "import time; print('one', end='', flush=True); time.sleep(1); print('two')",
    "loop": "import time\nprint('begun', flush=True)\nfor _ in range(3000): time.sleep(0.01)",
    "sleep": "import time; time.sleep(3)",
    "open": "def f():",
    "html": "from IPython.display import HTML; HTML('<b>h</b>')",
    "name": "len",
    "stem": "le",
    "display": "from IPython.display import display; d = display('first', display_id=True); import time; time.sleep(1)",
    "update": "d.update('second')",
    "clear": "from IPython.display import clear_output; print('x'); clear_output()",
    "input": "print(input('name? '))",
}
KERNELS = {"headstart": HEADSTART, "stock": STOCK, "python3": PYTHON}


class Client:
    def __init__(self, name, **options):
        self.manager = KernelManager(kernel_name=name, **options)
        self.manager.start_kernel()
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=300)

    def run(self, code, timeout=60, **options):
        """The reply's content, its metadata, and each message with the time of its arrival."""
        return self.heard(self.client.execute(code, **options), timeout)

    def heard(self, request, timeout=60):
        messages, reply, end = [], None, time.monotonic() + timeout
        idle = False
        while time.monotonic() < end and not (idle and reply):
            try:
                message = self.client.get_iopub_msg(timeout=0.02)
                if message["parent_header"].get("msg_id") == request:
                    messages.append((time.monotonic(), message["msg_type"], message["content"]))
                    idle = message["msg_type"] == "status" and message["content"]["execution_state"] == "idle"
            except Empty:
                pass
            try:
                found = self.client.get_shell_msg(timeout=0.02)
                reply = found if found["parent_header"]["msg_id"] == request else reply
            except Empty:
                pass
        return (reply or {"content": {}, "metadata": {}}), messages

    def stop(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


def kinds(messages):
    return [kind for _, kind, _ in messages]


def text(messages):
    return "".join(content["text"] for _, kind, content in messages if kind == "stream")


def counts_from_one(kernel, code):
    return kernel.run(code["pass"])[0]["content"]["execution_count"] == 1


def silent(kernel, code):
    before = kernel.run(code["pass"])[0]["content"]["execution_count"]
    _, messages = kernel.run(code["pass"], silent=True)
    after = kernel.run(code["pass"])[0]["content"]["execution_count"]
    return after == before + 1 and "execute_input" not in kinds(messages)


def store_history(kernel, code):
    before = kernel.run(code["pass"])[0]["content"]["execution_count"]
    kernel.run(code["pass"], store_history=False)
    return kernel.run(code["pass"])[0]["content"]["execution_count"] == before + 1


def user_expressions(kernel, code):
    made, name, value = code["value"]
    reply, _ = kernel.run(made, user_expressions={"v": name})
    return reply["content"].get("user_expressions", {}).get("v", {}).get("data", {}).get("text/plain") == value


def error_reply(kernel, code):
    reply, messages = kernel.run(code["error"])
    content = reply["content"]
    return content.get("status") == "error" and all(content.get(k) for k in ("ename", "evalue", "traceback")) and "error" in kinds(messages)


def stop_on_error(kernel, code):
    first, second = kernel.client.execute(code["error"]), kernel.client.execute(code["pass"])
    seen = {}
    while len(seen) < 2:
        reply = kernel.client.get_shell_msg(timeout=60)
        seen[reply["parent_header"]["msg_id"]] = reply["content"]["status"]
    return seen == {first: "error", second: "aborted"}


def is_complete(kernel, code):
    kernel.client.is_complete(code["open"])
    reply = kernel.client.get_shell_msg(timeout=10)["content"]
    return reply.get("status") == "incomplete" and reply.get("indent") == "    "


def history(kernel, code):
    kernel.run(code["pass"])
    reply = kernel.client.history(hist_access_type="tail", n=5, reply=True, timeout=5)["content"]
    return code["pass"] in [entry[2] for entry in reply["history"]]


def comm_info(kernel, _):
    return kernel.client.comm_info(reply=True, timeout=5)["content"].get("comms") is not None


def language_version(kernel, _):
    return kernel.client.kernel_info(reply=True, timeout=10)["content"]["language_info"]["version"][:1].isdigit()


def print_as_written(kernel, code):
    _, messages = kernel.run(code["print"])
    at = [when for when, kind, _ in messages if kind == "stream"]
    return len(at) >= 2 and at[-1] - at[0] > 0.5


def live_display(kernel, code):
    _, messages = kernel.run(code["display"])
    shown = [when for when, kind, _ in messages if kind == "display_data"]
    return bool(shown) and messages[-1][0] - shown[0] > 0.5


def update_display(kernel, code):
    kernel.run(code["display"])
    return "update_display_data" in kinds(kernel.run(code["update"])[1])


def clear_output(kernel, code):
    return "clear_output" in kinds(kernel.run(code["clear"])[1])


def stdin(kernel, code):
    request = kernel.client.execute(code["input"], allow_stdin=True)
    kernel.client.get_stdin_msg(timeout=20)
    kernel.client.input("Ada")
    return "Ada" in text(kernel.heard(request)[1])


def rich_value(kernel, code):
    _, messages = kernel.run(code["html"])
    return any("text/html" in content["data"] for _, kind, content in messages if kind == "execute_result")


def completion(kernel, code):
    reply = kernel.client.complete(code["stem"], len(code["stem"]), reply=True, timeout=20)["content"]
    return bool(reply["matches"])


def inspection(kernel, code):
    return kernel.client.inspect(code["name"], len(code["name"]), reply=True, timeout=20)["content"]["found"]


def answers_while_running(kernel, code):
    request = kernel.client.execute(code["sleep"])
    time.sleep(1)
    begin = time.monotonic()
    try:
        kernel.client.complete(code["stem"], len(code["stem"]), reply=True, timeout=1.5)
        return time.monotonic() - begin < 1.5
    except (Empty, TimeoutError):
        return False
    finally:
        kernel.heard(request)


def keeps_variables(kernel, code):
    made, name, value = code["value"]
    kernel.run(made)
    request = kernel.client.execute(code["loop"])
    time.sleep(3)
    kernel.manager.interrupt_kernel()
    kernel.heard(request, timeout=15)
    _, messages = kernel.run(name)
    return any(content["data"]["text/plain"] == value for _, kind, content in messages if kind == "execute_result")


def started(kernel, code):
    return "started" in kernel.run(code["pass"])[0]["metadata"]


def heartbeat(kernel, _):
    info = kernel.manager.get_connection_info()
    socket = zmq.Context.instance().socket(zmq.REQ)
    socket.connect(f"tcp://{info['ip']}:{info['hb_port']}")
    socket.send(b"any bytes")
    answered = socket.poll(3000) and socket.recv() == b"any bytes"
    socket.close(linger=0)
    return answered


def signatures(kernel, _):
    info = kernel.manager.get_connection_info()
    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.connect(f"tcp://{info['ip']}:{info['shell_port']}")
    Session(key=b"wrong", signature_scheme="hmac-sha256").send(socket, "kernel_info_request", {})
    refused = not socket.poll(1000)
    socket.close(linger=0)
    return refused and kernel.client.kernel_info(reply=True, timeout=10)["content"]["status"] == "ok"


def ipc(kernel, code):
    other = Client(kernel.manager.kernel_name, transport="ipc")
    try:
        return other.run(code["pass"])[0]["content"].get("status") == "ok"
    finally:
        other.stop()


FEATURES = {
    "counts cells from 1": counts_from_one,
    "silent": silent,
    "store_history": store_history,
    "user_expressions": user_expressions,
    "error reply with name, value, traceback": error_reply,
    "stop_on_error aborts what waits": stop_on_error,
    "is_complete with indent": is_complete,
    "history": history,
    "comm_info": comm_info,
    "language version": language_version,
    "text is seen as it is written": print_as_written,
    "a display appears while the cell runs": live_display,
    "update_display_data": update_display,
    "clear_output": clear_output,
    "stdin": stdin,
    "rich values": rich_value,
    "completion": completion,
    "inspection": inspection,
    "answers while a cell runs": answers_while_running,
    "variables after an interrupt": keeps_variables,
    "start time in the reply": started,
    "heartbeat echoes": heartbeat,
    "wrong signatures are refused": signatures,
    "IPC transport": ipc,
}


def has(name, what, answers):
    """Starts a kernel, looks for a feature and sends the answer."""
    kernel = None
    try:
        kernel = Client(name)
        answer = bool(FEATURES[what](kernel, KERNELS[name]))
    except Exception as problem:  # noqa: BLE001 - whatever goes wrong, the answer is no
        print(f"{name}: {what}: {type(problem).__name__} {problem}", file=sys.stderr)
        answer = False
    answers.send(answer)
    if kernel:
        kernel.stop()


def kill(process):
    """Kills a process and its descendants."""
    for child in below(process):
        kill(child)
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        pass


def ask(name, what):
    """Whether a kernel has a feature. A kernel that does not answer in time has not."""
    received, answers = multiprocessing.Pipe(duplex=False)
    # A process of its own, because a client can hang in a call that has no timeout.
    asked = multiprocessing.get_context("fork").Process(target=has, args=(name, what, answers))
    asked.start()
    answers.close()
    answered = received.poll(TIMEOUT)
    try:
        answer = answered and received.recv()
    except EOFError:
        answer = False
    if not answered:
        print(f"{name}: {what}: no answer in {TIMEOUT} s", file=sys.stderr)
    asked.join(10 if answered else 0)
    if asked.is_alive():
        kill(asked.pid)
        asked.join()
    return answer


def main():
    kernels = sys.argv[1:] or list(KERNELS)
    install_kernels(Path(tempfile.mkdtemp()))
    found = {name: {what: ask(name, what) for what in FEATURES} for name in kernels}
    print(f"{'':42}" + "".join(f"{name:>12}" for name in kernels))
    for what in FEATURES:
        print(f"{what:42}" + "".join(f"{'yes' if found[name][what] else 'no':>12}" for name in kernels))
    print(f"{'of ' + str(len(FEATURES)):42}" + "".join(f"{sum(found[name].values()):12}" for name in kernels))


if __name__ == "__main__":
    main()
