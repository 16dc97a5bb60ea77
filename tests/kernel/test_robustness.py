"""Events that must not crash a kernel or leave anything behind."""

import os
import random
import signal
import time
from pathlib import Path

import zmq
from conftest import Kernel, below, session_of, sessions, wait_until_gone
from jupyter_client.session import Session


def test_many_lines_arrive_completely_and_in_order(kernel):
    cell = kernel.run("for n in 0..100_000 { println!(\"{n}\"); }", timeout=60)
    assert cell.stdout.split() == [str(n) for n in range(100_000)]
    assert kernel.ok("1 + 1") == "2"


def test_a_display_of_fifty_megabytes_arrives(kernel):
    cell = kernel.run('display(&Text::new("x".repeat(50 << 20)));', timeout=60)
    assert cell.status == "ok", cell.traceback
    assert len(cell.of_type("display_data")[0]["data"]["text/plain"]) == 50 << 20
    assert kernel.ok("1 + 1") == "2"


def test_invalid_utf_8_does_not_end_the_session(kernel):
    code = r'use std::io::Write; std::io::stdout().write_all(b"a\xff\xfeb\n")?; std::io::stderr().write_all(b"\xff\n")?;'
    cell = kernel.run(code)
    assert cell.status == "ok" and cell.stdout == "a\ufffd\ufffdb\n"


def test_a_killed_process_of_cells_is_replaced(kernel):
    kernel.ok("let lost = 1;")
    child = below(kernel.manager.provisioner.pid)
    request = kernel.send("std::thread::sleep(std::time::Duration::from_secs(30));")
    time.sleep(1.5)
    for process in child:
        os.kill(process, signal.SIGKILL)
    cell = kernel.result(request, timeout=20)
    assert cell.reply["ename"] == "ProcessEnded" and "lost" in cell.traceback
    assert kernel.ok("Tensor::zeros(2, DType::F32, &device())?.dims()") == "[2]"


def test_a_killed_kernel_leaves_no_process_and_the_next_one_removes_its_files():
    first = Kernel()
    first.ok("let a = 1;")
    process = first.manager.provisioner.pid
    started = below(process)
    session = session_of(process)
    assert started and session in sessions()
    os.kill(process, signal.SIGKILL)
    wait_until_gone([process, *started])
    first.stop()
    second = Kernel()
    try:
        assert second.ok("1 + 1") == "2"
        assert session not in sessions()
    finally:
        second.stop()


def test_three_kernels_work_at_once_in_one_folder(tmp_path):
    kernels = [Kernel(cwd=tmp_path) for _ in range(3)]
    try:
        requests = [k.send(f"let mine = {n}; std::thread::sleep(std::time::Duration::from_secs(1));") for n, k in enumerate(kernels)]
        assert [k.result(r).status for k, r in zip(kernels, requests)] == ["ok"] * 3
        assert [k.ok("mine") for k in kernels] == ["0", "1", "2"]
        assert list(tmp_path.iterdir()) == [], "nothing is left where the notebook lies"
    finally:
        for kernel in kernels:
            kernel.stop()


def test_thousands_of_invalid_messages_are_dropped(kernel):
    info = kernel.manager.get_connection_info()
    context = zmq.Context.instance()
    chance = random.Random(1)
    honest = Session(key=info["key"], signature_scheme="hmac-sha256")
    for port in ("shell_port", "control_port", "stdin_port"):
        socket = context.socket(zmq.DEALER)
        socket.connect(f"tcp://{info['ip']}:{info[port]}")
        for number in range(700):
            whole = honest.serialize(honest.msg("kernel_info_request"))
            if number % 3 == 0:  # truncated
                parts = whole[: chance.randrange(len(whole))] or [b""]
            elif number % 3 == 1:  # a byte changed
                part = chance.randrange(1, len(whole))
                changed = bytearray(whole[part] or b"x")
                changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
                parts = [*whole[:part], bytes(changed), *whole[part + 1 :]]
            else:  # noise
                parts = [chance.randbytes(chance.randrange(200)) for _ in range(chance.randrange(1, 8))]
            socket.send_multipart(parts)
        socket.close(linger=1000)
    assert kernel.client.kernel_info(reply=True, timeout=10)["content"]["status"] == "ok"
    assert kernel.ok("1 + 1") == "2"


def test_many_cells_do_not_leak_files_or_memory(kernel):
    """Each cell stays loaded, but the numbers of open files and the memory do not grow beyond that."""

    def measure():
        process = kernel.manager.provisioner.pid
        resident = int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return len(os.listdir(f"/proc/{process}/fd")), resident

    kernel.ok("let mut total = 0;")
    for _ in range(10):
        kernel.ok("total += 1;")
    files, resident = measure()
    for _ in range(40):
        kernel.ok("total += 1;")
    more_files, more_resident = measure()
    assert kernel.ok("total") == "50"
    assert more_files <= files + 1
    assert more_resident < resident + (60 << 20), f"{resident >> 20} MB became {more_resident >> 20} MB"


def test_a_large_array_is_a_variable(kernel):
    kernel.ok("let mut grid = [[0u8; 2000]; 2000];")
    kernel.ok("grid[1][1] = 7;")
    assert kernel.ok("grid[1][1]") == "7"
