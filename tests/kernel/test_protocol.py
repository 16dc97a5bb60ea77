"""Requests of clients that Jupyter's own test suite does not cover."""

import re
import time

import zmq
from conftest import Kernel
from jupyter_client.session import Session


def test_counts_begin_at_one_and_silent_cells_are_not_counted(kernel):
    assert kernel.run("let a = 1;").reply["execution_count"] == 1
    silent = kernel.run('println!("unseen");', silent=True)
    assert silent.of_type("execute_input", "stream") == []
    cell = kernel.run("a")
    assert cell.reply["execution_count"] == 2
    assert cell.of_type("execute_input")[0] == {"code": "a", "execution_count": 2}


def test_every_message_names_its_request(kernel):
    request = kernel.send('println!("x"); 1')
    cell = kernel.result(request)
    kinds = [m["msg_type"] for m in cell.messages]
    assert kinds == ["status", "execute_input", "stream", "execute_result", "status"]
    for message in cell.messages:
        assert message["parent_header"]["msg_id"] == request
        assert message["header"]["version"] == "5.4"


def test_the_heartbeat_is_echoed(kernel):
    info = kernel.manager.get_connection_info()
    socket = zmq.Context.instance().socket(zmq.REQ)
    socket.connect(f"tcp://{info['ip']}:{info['hb_port']}")
    socket.send(b"any bytes at all")
    assert socket.poll(5000) and socket.recv() == b"any bytes at all"
    socket.close()


def test_a_bad_heartbeat_does_not_end_the_others(kernel):
    info = kernel.manager.get_connection_info()
    address = f"tcp://{info['ip']}:{info['hb_port']}"

    def connected(kind, text):
        socket = zmq.Context.instance().socket(kind)
        socket.connect(address)
        socket.send(text)
        return socket

    def is_echoed():
        socket = connected(zmq.REQ, b"ping")
        found = socket.poll(20000) and socket.recv()
        socket.close(linger=0)
        return found == b"ping"

    for _ in range(3):
        bad = connected(zmq.DEALER, b"one frame")
        assert is_echoed()
        bad.close(linger=0)
        connected(zmq.REQ, b"not read").close(linger=0)
        assert is_echoed()


def test_a_wrongly_signed_request_is_not_answered(kernel):
    info = kernel.manager.get_connection_info()
    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.connect(f"tcp://{info['ip']}:{info['shell_port']}")
    forged = Session(key=b"wrong", signature_scheme="hmac-sha256")
    forged.send(socket, "kernel_info_request", {})
    assert not socket.poll(1000)
    honest = Session(key=info["key"], signature_scheme="hmac-sha256")
    honest.send(socket, "kernel_info_request", {})
    assert socket.poll(5000)
    socket.close()


def test_cells_queued_after_a_failed_one_are_aborted(kernel):
    first, second = kernel.send("missing_name"), kernel.send("1")
    replies = {}
    while len(replies) < 2:
        reply = kernel.client.get_shell_msg(timeout=60)
        replies[reply["parent_header"]["msg_id"]] = reply["content"]["status"]
    assert replies == {first: "error", second: "aborted"}
    assert kernel.ok("2") == "2"


def test_comms_are_answered_empty(kernel):
    comms = kernel.client.comm_info(reply=True, timeout=10)["content"]
    assert (comms["status"], comms["comms"]) == ("ok", {})


def test_rare_requests_are_answered(kernel):
    def ask(kind, content):
        message = kernel.client.session.msg(kind, content)
        kernel.client.control_channel.send(message)
        return kernel.client.get_control_msg(timeout=10)["content"]

    ports = ask("connect_request", {})
    assert ports["shell_port"] == kernel.manager.get_connection_info()["shell_port"]
    refused = ask("debug_request", {"seq": 7, "type": "request", "command": "evaluate"})
    assert (refused["success"], refused["request_seq"], refused["command"]) == (False, 7, "evaluate")
    unknown = ask("paint_request", {})
    assert unknown["status"] == "error" and "paint_request" in unknown["evalue"]
    ill_formed = ask("complete_request", {"code": 5})
    assert ill_formed["status"] == "error"


def test_missing_fields_of_a_request_have_their_defaults(kernel):
    def run(**content):
        message = kernel.client.session.msg("execute_request", content)
        kernel.client.shell_channel.send(message)
        return kernel.result(message["header"]["msg_id"])

    kernel.ok("0")
    before = run(code="1 + 1")
    assert before.status == "ok" and before.value == "2"
    assert run(code="2 + 1", silent=True).reply["execution_count"] == before.reply["execution_count"]
    assert run(code="2 + 2", silent=False).reply["execution_count"] == before.reply["execution_count"] + 1


def test_history_is_saved_across_sessions(kernel):
    kernel.ok('"remembered".len()')
    other = Kernel()
    try:
        other.ok("let new = 1;")
        tail = other.client.history(hist_access_type="tail", n=2, output=True, reply=True, timeout=10)["content"]
        assert [entry[2] for entry in tail["history"]] == [['"remembered".len()', "10"], ["let new = 1;", ""]]
        own = other.client.history(hist_access_type="range", session=0, start=0, reply=True, timeout=10)["content"]
        assert [entry[1:] for entry in own["history"]] == [[1, "let new = 1;"]]
    finally:
        other.stop()


def test_positions_are_counted_in_characters(kernel):
    code = 'let é🦀 = "é🦀"; Vgg1'
    reply = kernel.client.complete(code, len(code), reply=True, timeout=30)["content"]
    assert (reply["cursor_start"], reply["cursor_end"]) == (len(code) - 4, len(code))
    assert "Vgg16" in reply["matches"]


def test_a_cell_that_never_yields_can_be_interrupted(kernel):
    kernel.ok("let kept = 5;")
    request = kernel.send("loop { std::hint::spin_loop(); }")
    kernel.client.get_iopub_msg(timeout=10)
    time.sleep(2)
    kernel.manager.interrupt_kernel()
    cell = kernel.result(request, timeout=30)
    assert cell.reply["ename"] == "Interrupted" and "kept" in cell.traceback
    assert kernel.ok("1 + 1") == "2"


def test_a_restart_deletes_the_variables(kernel):
    kernel.ok("let before = 1;")
    kernel.client.shutdown(restart=True)
    kernel.manager.restart_kernel()
    kernel.client.wait_for_ready(timeout=60)
    assert kernel.run("before").status == "error"
    assert kernel.run("3").reply["execution_count"] == 2


def test_user_expressions_are_evaluated(kernel):
    kernel.ok("let n = 20;")
    reply = kernel.run("n", user_expressions={"twice": "n * 2", "wrong": "missing"}).reply["user_expressions"]
    assert reply["twice"]["data"] == {"text/plain": "40"}
    assert (reply["wrong"]["status"], reply["wrong"]["ename"]) == ("error", "CompileError")


def test_a_cell_can_ask_for_input(kernel):
    request = kernel.send('let name = input("Your name? ")?; println!("hello {name}");', allow_stdin=True)
    asked = kernel.client.get_stdin_msg(timeout=30)["content"]
    assert asked == {"prompt": "Your name? ", "password": False}
    kernel.client.input("Ada: 1")
    assert kernel.result(request).stdout == "hello Ada: 1\n"
    secret = kernel.send('input_password("Key? ")?.len()', allow_stdin=True)
    assert kernel.client.get_stdin_msg(timeout=30)["content"]["password"]
    kernel.client.input("1234")
    assert kernel.result(secret).value == "4"
    unheard = kernel.run('input("Anyone? ")?', allow_stdin=False)
    assert unheard.status == "error" and "does not support input" in unheard.reply["evalue"]


def test_requests_are_answered_immediately_while_a_cell_runs(kernel):
    request = kernel.send("std::thread::sleep(std::time::Duration::from_secs(4));")
    kernel.client.get_iopub_msg(timeout=10)
    begin = time.monotonic()
    empty = kernel.client.complete("Vgg1", 4, reply=True, timeout=10)["content"]
    assert (empty["status"], empty["matches"]) == ("ok", [])
    assert not kernel.client.inspect("Vgg16", 4, reply=True, timeout=10)["content"]["found"]
    kernel.client.is_complete("f(")
    assert kernel.client.get_shell_msg(timeout=10)["content"] == {"status": "incomplete", "indent": "    "}
    assert kernel.client.kernel_info(reply=True, timeout=10)["content"]["status"] == "ok"
    assert time.monotonic() - begin < 2
    assert kernel.result(request).status == "ok"


def test_text_is_shown_immediately(kernel):
    request = kernel.send(
        'print!("one"); std::thread::sleep(std::time::Duration::from_secs(1)); print!("\\rtwo é");'
        'std::thread::sleep(std::time::Duration::from_secs(1)); eprint!("three"); print!("four");'
    )
    cell = kernel.result(request)
    parts = [c["text"] for c in cell.of_type("stream") if c["name"] == "stdout"]
    assert parts == ["one", "\rtwo é", "four"]
    assert cell.stderr == "three"
    assert kernel.run('print!("a"); println!("b"); print!("c"); 7').stdout == "ab\nc"
    assert kernel.run('print!("x"); panic!("y");').stdout == "x"


def test_the_ipc_transport_works():
    other = Kernel(manager={"transport": "ipc"})
    try:
        assert other.manager.get_connection_info()["transport"] == "ipc"
        assert other.ok("6 * 7") == "42"
    finally:
        other.stop()


def test_timing_shows_the_phases_of_a_cell(kernel):
    kernel.ok(":timing")
    line = kernel.run(f"let timed = {time.time_ns()}_u64;").stdout  # a new cell in every run
    kernel.ok(":timing")
    assert re.fullmatch(r"\d\.\d\d s: rust-analyzer \d\.\d\d s, cargo and rustc \d\.\d\d s, linker \d\.\d\d s, running \d\.\d\d s\n", line), line
    assert kernel.run("let untimed = 1;").stdout == ""


def test_an_errors_code_is_explained(kernel):
    assert kernel.run('let z: i32 = "text";').status == "error"
    assert "E0308" in kernel.run(":explain").value or "Expected type did not match" in kernel.run(":explain").value
