"""What surrounds a cell: standard streams, the environment of programs, closed pipes, and running kernels."""

import os
import re
import signal
import subprocess
import time

import nbformat
from conftest import HEADSTART, Kernel, below, processes, wait_until_gone
from test_standby import wait_for_standby


def test_a_buffer_in_front_of_standard_output_is_flushed(kernel):
    cell = kernel.run('use std::io::Write;\nlet mut out = std::io::BufWriter::new(std::io::stdout());\nwriteln!(out, "hello")?;')
    assert cell.status == "ok" and cell.stdout == "hello\n"
    assert "`out` lasts for this cell only" in cell.stderr
    cell = kernel.run("out.flush()?;")
    assert cell.status == "error" and "`out` lasted for its cell only" in cell.traceback


def test_a_lock_of_standard_output_does_not_block_later_cells(kernel):
    kernel.ok("let mut handle = std::io::stdout().lock();")
    cell = kernel.run('std::thread::spawn(|| println!("printed")).join().is_ok()', timeout=60)
    assert (cell.value, cell.stdout) == ("true", "printed\n")


def test_programs_that_a_cell_starts_get_the_users_environment(kernel):
    cell = kernel.run('let listed = std::process::Command::new("env").output()?;\nprintln!("{}", String::from_utf8_lossy(&listed.stdout));')
    lines = dict(re.findall(r"(?m)^(\w+)=(.*)$", cell.stdout))
    assert lines["PATH"] == os.environ["PATH"]
    for name in ("RUSTC_WRAPPER", "RUSTUP_TOOLCHAIN", "CARGO", "EVCXR_TMPDIR", "HEADSTART_USERS_ENVIRONMENT", "EVCXR_IS_RUNTIME", "RUST_BACKTRACE"):
        assert lines.get(name) == os.environ.get(name), name


def test_a_cell_can_start_this_program(kernel):
    cell = kernel.run(f'let models = std::process::Command::new("{HEADSTART}").args(["models", "list"]).output()?;\nmodels.status.success()')
    assert cell.value == "true" and kernel.ok("models.stderr.is_empty()") == "true"


def test_a_blank_cell_is_not_counted(kernel):
    before = kernel.run("1").reply["execution_count"]
    assert kernel.run(" \n").reply["execution_count"] == before
    assert kernel.run("1").reply["execution_count"] == before + 1


def closed():
    """Write end of a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    return write


def test_a_command_survives_a_closed_pipe(tmp_path):
    """As in `headstart models list | head`. The notebook of a run is written."""
    path = tmp_path / "a.ipynb"
    cells = [nbformat.v4.new_code_cell('for i in 0..1000 { println!("{i}"); eprintln!("{i}"); }\n42')]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    for arguments in (["models", "list"], ["cache"], ["run", path]):
        pipe = closed()
        ended = subprocess.run([HEADSTART, *arguments], stdout=pipe, stderr=subprocess.PIPE, text=True)
        assert ended.returncode == 0 and "panicked" not in ended.stderr, ended.stderr
        ended = subprocess.run([HEADSTART, *arguments], stdout=pipe, stderr=pipe)
        os.close(pipe)
        assert ended.returncode == 0
    outputs = nbformat.read(path, 4).cells[0].outputs
    assert outputs[-1]["data"]["text/plain"] == "42"


def test_a_killed_kernel_behind_a_proxy_ends_its_commands(monkeypatch):
    monkeypatch.setenv("HEADSTART_STANDBY", "2")
    first = Kernel()
    first.ok("1 + 1")
    wait_for_standby()
    second = Kernel()
    second.ok("1 + 1")
    proxy = second.manager.provisioner.pid
    assert not below(proxy), "a standby serves it"
    second.send("!sleep 611")

    def sleeping():
        return [number for number, (_, state, command) in processes().items() if b"sleep\x00611" in command and state != "Z"]

    for _ in range(100):
        if sleeping():
            break
        time.sleep(0.1)
    begun = sleeping()
    assert begun
    os.kill(proxy, signal.SIGKILL)
    wait_until_gone(begun)
    second.stop()
    first.stop()


def test_the_prelude_is_not_replaced_under_a_running_kernel(kernel):
    kernel.ok("1")
    refused = subprocess.run([HEADSTART, "install", "--from-source"], capture_output=True, text=True)
    assert refused.returncode == 1 and "are running and use the cache" in refused.stderr


def test_a_cell_may_use_the_names_of_a_result(kernel):
    kernel.ok("#[derive(Debug)] enum Health { Ok, Sick }")
    kernel.ok("use Health::*;\nlet health = Sick;")
    assert kernel.ok("let other = 1;\nformat!(\"{health:?} {:?}\", Ok)") == '"Sick Ok"'
