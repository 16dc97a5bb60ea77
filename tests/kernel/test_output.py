"""Outputs of cells: immediate, in order, complete, and not blocked by a missing end."""

import time

import pytest
import zmq
from conftest import Kernel


def stamps(kernel, request, name):
    """Arrival time and text of each part of a stream."""
    begin, found = time.monotonic(), []
    while True:
        message = kernel.client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") != request:
            continue
        if message["msg_type"] == "stream" and message["content"]["name"] == name:
            found.append((time.monotonic() - begin, message["content"]["text"]))
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            kernel.client.get_shell_msg(timeout=60)
            return found


def test_standard_error_is_shown_immediately(kernel):
    code = 'for i in 0..40 { eprintln!("{i}"); std::thread::sleep(std::time::Duration::from_millis(50)); }'
    found = stamps(kernel, kernel.send(code), "stderr")
    assert "".join(text for _, text in found).split() == [str(n) for n in range(40)]
    assert len(found) > 20


def test_an_overwritten_line_is_shown(kernel):
    code = 'for i in 0..100 { print!("\\r{i}"); std::thread::sleep(std::time::Duration::from_millis(20)); }'
    found = stamps(kernel, kernel.send(code), "stdout")
    assert "".join(text for _, text in found).split("\r")[1:] == [str(n) for n in range(100)]
    assert len(found) > 20


@pytest.mark.parametrize("turn", range(10))
def test_output_of_a_thread_after_the_end_of_its_cell_is_complete(kernel, turn):
    # Output after the cell's end appears below the same cell.
    request = kernel.send('let t = std::thread::spawn(|| for n in 0..20_000 { println!("line {n}"); });')
    cell = kernel.result(request, timeout=30)
    text = cell.stdout
    while not text.endswith("line 19999\n"):
        message = kernel.client.get_iopub_msg(timeout=10)
        if message["msg_type"] == "stream":
            assert message["parent_header"]["msg_id"] == request
            text += message["content"]["text"]
    assert text.split("\n")[:-1] == [f"line {n}" for n in range(20_000)]
    assert kernel.ok("1 + 1") == "2"


def test_both_streams_of_a_thread_are_shown_between_cells(kernel):
    code = (
        "let t = std::thread::spawn(|| { std::thread::sleep(std::time::Duration::from_millis(800));"
        'println!("out later"); eprintln!("err later"); });'
    )
    request = kernel.send(code)
    kernel.result(request)
    later = {}
    while len(later) < 2:
        message = kernel.client.get_iopub_msg(timeout=10)
        if message["msg_type"] == "stream":
            assert message["parent_header"]["msg_id"] == request
            later[message["content"]["name"]] = message["content"]["text"]
    assert later == {"stdout": "out later\n", "stderr": "err later\n"}


def test_a_million_lines_are_few_messages(kernel):
    cell = kernel.run("for n in 0..1_000_000 { println!(\"{n}\"); }", timeout=120)
    assert cell.status == "ok"
    assert cell.stdout == "".join(f"{n}\n" for n in range(1_000_000))
    assert len(cell.of_type("stream")) < 2000


def test_output_of_c_code_is_shown(kernel):
    code = 'unsafe extern "C" { fn write(to: i32, text: *const u8, length: usize) -> isize; }\nunsafe { write(1, b"from C".as_ptr(), 6) };'
    assert kernel.run(code).stdout == "from C"


def test_a_panic_of_a_thread_is_shown_but_does_not_fail_the_cell(kernel):
    cell = kernel.run('let _ = std::thread::Builder::new().name("worker".into()).spawn(|| panic!("lost")).map(|t| t.join());')
    assert cell.status == "ok" and cell.stderr == "the thread `worker` panicked: lost\n"
    cell = kernel.run('let _ = std::thread::spawn(|| panic!("lost")).join(); "x".parse::<i32>()?;')
    assert cell.reply["ename"] == "Error" and "invalid digit" in cell.reply["evalue"] and "lost" in cell.stderr
    cell = kernel.run('let _ = std::panic::catch_unwind(|| panic!("caught")); "x".parse::<i32>()?;')
    assert cell.reply["ename"] == "Error" and "invalid digit" in cell.reply["evalue"] and "caught" in cell.stderr
    cell = kernel.run('std::thread::spawn(|| panic!("first")).join().expect("second");')
    assert cell.reply["ename"] == "Panic" and "second" in cell.reply["evalue"] and "first" in cell.stderr


def test_content_that_is_not_closed_ends_with_the_cell(kernel):
    cell = kernel.run('println!("EVCXR_BEGIN_CONTENT text/html\\n<b>bold</b>");', timeout=20)
    assert cell.status == "ok" and cell.of_type("execute_result")[0]["data"]["text/html"] == "<b>bold</b>\n"
    assert kernel.run('println!("see EVCXR_BEGIN_CONTENT in the manual");').stdout == "see EVCXR_BEGIN_CONTENT in the manual\n"
    assert kernel.ok("1 + 1") == "2"


def test_several_contents_of_one_type_are_all_shown(kernel):
    code = 'for n in 0..3 { println!("EVCXR_BEGIN_CONTENT text/html\\n<b>{n}</b>\\nEVCXR_END_CONTENT"); }'
    cell = kernel.run(code)
    shown = [c["data"]["text/html"] for c in cell.of_type("display_data", "execute_result")]
    assert shown == ["<b>0</b>", "<b>1</b>", "<b>2</b>"]


def test_a_client_that_does_not_read_blocks_neither_the_kernel_nor_the_cell():
    kernel = Kernel()
    try:
        info = kernel.manager.get_connection_info()
        other = zmq.Context.instance().socket(zmq.SUB)  # which reads nothing
        other.set(zmq.RCVHWM, 1)
        other.set(zmq.SUBSCRIBE, b"")
        other.connect(f"tcp://{info['ip']}:{info['iopub_port']}")
        begin = time.monotonic()
        request = kernel.send('for n in 0..300 { display(&Text::new("x".repeat(1 << 20))); }')
        cell = kernel.result(request, timeout=120)
        assert cell.status == "ok" and cell.messages[-1]["content"]["execution_state"] == "idle"
        assert time.monotonic() - begin < 60
        assert kernel.ok("1 + 1") == "2"
        other.close(linger=0)
        deadline = time.monotonic() + 20
        while "outputs are missing here" not in kernel.run('println!("more");').stderr:
            assert time.monotonic() < deadline
    finally:
        kernel.stop()


def test_buffered_output_of_c_code_is_shown_with_its_cell(kernel):
    code = 'unsafe extern "C" { fn puts(text: *const std::ffi::c_char) -> i32; }\nunsafe { puts(c"from C".as_ptr()) };'
    assert kernel.run(code).stdout == "from C\n"
    assert kernel.run("1").stdout == ""


def test_displays_arrive_whole_while_a_program_prints(kernel):
    kernel.ok('let mut noise = std::process::Command::new("sh").args(["-c", "while :; do echo noise; done"]).spawn()?;')
    cell = kernel.run('for i in 0..20 { display(&Html(format!("<b>{i} {}</b>", "é".repeat(100_000)))); }\nnoise.kill()?;\nnoise.wait()?;')
    assert cell.status == "ok", cell.reply
    shown = [message["data"]["text/html"] for message in cell.of_type("display_data")]
    assert shown == [f"<b>{i} {'é' * 100_000}</b>" for i in range(20)]
    assert set(cell.stdout.split()) <= {"noise"} and "could not be read" not in cell.stderr
