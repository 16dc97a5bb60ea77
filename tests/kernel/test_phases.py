"""Stop, a second Stop, restart and shutdown, in each phase of a cell."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Kernel, below, processes, wait_until_gone

KEPT = "let kept = 7;"
# Enough functions to keep rustc busy for some time.
BIG = "\n".join(f'fn f{n}(v: &[u64]) -> Vec<String> {{ v.iter().map(|x| format!("{{x}} {n}")).collect() }}' for n in range(3000))


def programs(kernel, name):
    """Processes with this name among the descendants of the kernel's process."""
    found, known = [kernel.manager.provisioner.pid], processes()
    for process in found:
        found += [number for number, (parent, state, _) in known.items() if parent == process and state != "Z"]
    return [number for number in found if name in known.get(number, (0, "Z", b""))[2]]


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def begin(kernel, phase):
    """Send a cell and wait until it is in this phase."""
    if phase == "command":
        request = kernel.send("!echo begun; sleep 12")
        wait_for(lambda: programs(kernel, b"sleep\x0012"))
    elif phase == "compiling":
        request = kernel.send(f"{BIG}\n// {time.time_ns()}\nlet new = f0(&[{time.time_ns()}]).len();")
        wait_for(lambda: programs(kernel, b"rustc"))
    elif phase == "running":
        request = kernel.send('println!("begun"); loop { check_interrupt()?; std::thread::yield_now(); }')
        wait_for_output(kernel, request)
    elif phase == "deaf":
        request = kernel.send('println!("begun"); loop { std::hint::spin_loop(); }')
        wait_for_output(kernel, request)
    else:
        request = kernel.send('let answer = input("Name? ")?; println!("went on {answer}");', allow_stdin=True)
        kernel.client.get_stdin_msg(timeout=60)
    return request


def wait_for_output(kernel, request):
    while True:
        message = kernel.client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") == request and message["msg_type"] == "stream":
            return


@pytest.mark.parametrize("presses", [1, 2])
@pytest.mark.parametrize("phase", ["command", "compiling", "running", "asking"])
def test_stop_ends_the_cell_and_keeps_the_variables(kernel, phase, presses):
    kernel.ok(KEPT)
    request = begin(kernel, phase)
    pressed = time.monotonic()
    kernel.manager.interrupt_kernel()
    if presses == 2 and phase in ("command", "compiling"):
        # If the first press ends the cell, the second one has no effect.
        kernel.manager.interrupt_kernel()
    cell = kernel.result(request, timeout=20)
    assert (cell.status, cell.reply["ename"]) == ("error", "Interrupted"), cell.traceback
    assert time.monotonic() - pressed < 4
    assert "went on" not in cell.stdout
    assert kernel.ok("kept") == "7"
    assert not programs(kernel, b"sleep\x0012") and not programs(kernel, b"rustc")
    # The interrupt applied only to that cell.
    assert kernel.ok("check_interrupt()?; 1") == "1"


def test_a_second_stop_kills_code_that_does_not_check_for_interrupts(kernel):
    kernel.ok(KEPT)
    request = begin(kernel, "deaf")
    kernel.manager.interrupt_kernel()
    kernel.manager.interrupt_kernel()
    cell = kernel.result(request, timeout=4)
    assert cell.reply["ename"] == "Interrupted" and "kept" in cell.traceback
    assert kernel.run("kept").status == "error"


def test_stop_during_a_long_command_keeps_the_variables(kernel):
    kernel.ok(KEPT)
    # The command ignores SIGINT and SIGTERM, and runs longer than the timeout for code after Stop.
    request = kernel.send("!trap '' INT TERM; sleep 12; sleep 12")
    wait_for(lambda: programs(kernel, b"sleep\x0012"))
    for _ in range(3):
        kernel.manager.interrupt_kernel()
        time.sleep(0.3)
    assert kernel.result(request, timeout=8).reply["ename"] == "Interrupted"
    time.sleep(6)
    assert kernel.ok("kept") == "7"


def test_a_late_answer_does_not_answer_the_next_question(kernel):
    request = begin(kernel, "asking")
    kernel.manager.interrupt_kernel()
    assert kernel.result(request).reply["ename"] == "Interrupted"
    kernel.client.input("late")
    request = kernel.send('let name = input("And now? ")?; println!("{name}");', allow_stdin=True)
    kernel.client.get_stdin_msg(timeout=60)
    kernel.client.input("in time")
    assert kernel.result(request).stdout == "in time\n"


def test_stop_while_the_prelude_is_loading():
    kernel = Kernel(waits=False)
    try:
        request = kernel.send("1 + 1")
        while kernel.client.get_iopub_msg(timeout=60)["parent_header"].get("msg_id") != request:
            pass
        time.sleep(0.3)
        # Wait for the reply before the next cell is sent, so that the interrupt cannot hit that cell.
        kernel.client.control_channel.send(kernel.client.session.msg("interrupt_request", {}))
        kernel.client.get_control_msg(timeout=20)
        cell = kernel.client.get_shell_msg(timeout=20)["content"]
        # A fast machine may have loaded it by now.
        assert cell["status"] == "ok" or (cell["ename"], "before it began" in cell["evalue"]) == ("Interrupted", True)
        assert kernel.ok("2 + 2") == "4"
    finally:
        kernel.stop()


@pytest.mark.parametrize("phase", ["idle", "command", "compiling", "running", "deaf", "asking"])
@pytest.mark.parametrize("restart", [False, True])
def test_restart_and_shutdown_leave_no_process(phase, restart):
    kernel = Kernel()
    try:
        kernel.ok("1")
        if phase != "idle":
            begin(kernel, phase)
        first = kernel.manager.provisioner.pid
        started = [first, *below(first)]
        at_work = programs(kernel, b"rustc") + programs(kernel, b"sleep\x0012")
        begun = time.monotonic()
        if restart:
            kernel.manager.restart_kernel()
            kernel.client.wait_for_ready(timeout=60)
        else:
            kernel.manager.shutdown_kernel()
        wait_until_gone([*started, *at_work])
        if not restart:
            assert time.monotonic() - begun < 4
        else:
            assert kernel.ok("3 + 3") == "6"
    finally:
        if kernel.manager.has_kernel:
            kernel.stop()


def test_a_kernel_ends_when_its_server_is_killed():
    # Starts a kernel as Jupyter's server does.
    code = (
        "import sys; from jupyter_client.manager import KernelManager\n"
        "manager = KernelManager(kernel_name='headstart'); manager.start_kernel()\n"
        "client = manager.blocking_client(); client.start_channels(); client.wait_for_ready(timeout=300)\n"
        "client.execute('1 + 1', reply=True, timeout=60)\n"
        "print(manager.provisioner.pid, flush=True); sys.stdin.read()"
    )
    server = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    kernel = int(server.stdout.readline())
    started = [kernel, *below(kernel)]
    assert len(started) > 1
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    wait_until_gone(started)


def test_standard_input_is_empty_for_cells_and_their_programs(kernel):
    assert kernel.ok("let mut line = String::new(); std::io::stdin().read_line(&mut line)?") == "0"
    assert kernel.run('std::process::Command::new("cat").spawn()?.wait()?.success()').value == "true"
    assert kernel.ok("1 + 1") == "2", "no cell's command was eaten"


def test_a_question_may_follow_text_on_its_line(kernel):
    request = kernel.send('print!("Hi. "); let name = input("Name? ")?; println!("{name}");', allow_stdin=True)
    assert kernel.client.get_stdin_msg(timeout=60)["content"]["prompt"] == "Name? "
    kernel.client.input("Ada")
    assert kernel.result(request).stdout == "Hi. Ada\n"


def test_commands_get_the_users_environment(kernel, tmp_path):
    cell = kernel.run(':env MINE=yes\n!env')
    lines = dict(line.split("=", 1) for line in cell.stdout.splitlines() if "=" in line)
    assert lines["MINE"] == "yes" and lines["PATH"] == os.environ["PATH"]
    for name in ("RUSTC_WRAPPER", "EVCXR_TMPDIR", "HEADSTART_PIPES", "HEADSTART_FRAMES", "RUSTUP_TOOLCHAIN", "CARGO"):
        assert lines.get(name) == os.environ.get(name), name
    failed = kernel.run("!echo out; echo err >&2; exit 3\nprintln!(\"not run\");")
    assert (failed.status, failed.reply["ename"]) == ("error", "CommandFailed") and "exit status: 3" in failed.reply["evalue"]
    assert (failed.stdout, failed.stderr) == ("out\n", "err\n")


def test_stop_works_after_restart_and_clear_commands(kernel):
    kernel.ok(":restart")
    request = begin(kernel, "running")
    kernel.manager.interrupt_kernel()
    assert kernel.result(request, timeout=20).reply["ename"] == "Interrupted"
    kernel.ok(":clear")
    request = begin(kernel, "running")
    kernel.manager.interrupt_kernel()
    assert kernel.result(request, timeout=20).reply["ename"] == "Interrupted"


def test_evcxrs_configuration_is_loaded_with_the_first_cell(tmp_path, monkeypatch):
    monkeypatch.setenv("EVCXR_CONFIG_DIR", str(tmp_path))
    (tmp_path / "prelude.rs").write_text("fn from_my_prelude() -> i32 { 42 }")
    kernel = Kernel()
    try:
        assert kernel.ok("from_my_prelude()") == "42"
    finally:
        kernel.stop()
    (tmp_path / "prelude.rs").write_text("no rust")
    (tmp_path / "evcxr.toml").write_text('[evcxr]\nopt_level = "1"\n')
    kernel = Kernel()
    try:
        cell = kernel.run("1 + 1")
        assert cell.value == "2" and "the configuration of evcxr" in cell.stderr and "prelude.rs" in cell.stderr
    finally:
        kernel.stop()
    (tmp_path / "evcxr.toml").write_text('[evcxr]\ntmpdir = "/tmp/all"\n')
    kernel = Kernel()
    try:
        cell = kernel.run("1 + 1")
        assert cell.reply["ename"] == "StartError" and "tmpdir" in cell.traceback and "hint: remove the line" in cell.traceback
    finally:
        kernel.stop()
