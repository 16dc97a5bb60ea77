"""What clients ask of a kernel, beyond Jupyter's own suite."""

import time

import zmq
from jupyter_client.session import Session


def test_counts_begin_at_one_and_silent_cells_are_not_counted(kernel):
    assert kernel.run("let a = 1;").reply["execution_count"] == 1
    silent = kernel.run('println!("unseen");', silent=True)
    assert silent.of_type("execute_input", "stream") == []
    cell = kernel.run("a")
    assert cell.reply["execution_count"] == 2
    assert cell.of_type("execute_input")[0] == {"code": "a", "execution_count": 2}


def test_every_message_says_who_asked(kernel):
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


def test_cells_sent_after_one_that_fails_are_aborted(kernel):
    first, second = kernel.send("missing_name"), kernel.send("1")
    replies = {}
    while len(replies) < 2:
        reply = kernel.client.get_shell_msg(timeout=60)
        replies[reply["parent_header"]["msg_id"]] = reply["content"]["status"]
    assert replies == {first: "error", second: "aborted"}
    assert kernel.ok("2") == "2"


def test_what_there_is_not_is_answered_empty(kernel):
    history = kernel.client.history(reply=True, timeout=10)["content"]
    assert (history["status"], history["history"]) == ("ok", [])
    comms = kernel.client.comm_info(reply=True, timeout=10)["content"]
    assert (comms["status"], comms["comms"]) == ("ok", {})


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
    assert kernel.result(request, timeout=30).status == "error"
    assert kernel.ok("1 + 1") == "2"


def test_a_restart_begins_anew(kernel):
    kernel.ok("let before = 1;")
    kernel.client.shutdown(restart=True)
    kernel.manager.restart_kernel()
    kernel.client.wait_for_ready(timeout=60)
    assert kernel.run("before").status == "error"
    assert kernel.run("3").reply["execution_count"] == 2
