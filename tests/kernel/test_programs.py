"""Programs that a cell starts, and processes that it forks, end with the cells' process."""

import json
import os
import shutil
import time

import pytest
from conftest import HEADSTART, Kernel, processes, wait_until_gone

FORK = 'unsafe extern "C" { fn fork() -> i32; }\n'


def running(*words):
    """Processes with this command line, wherever they are."""
    line = b"\0".join(word.encode() for word in words) + b"\0"
    return [number for number, (_, state, command) in processes().items() if command == line and state != "Z"]


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def test_stop_also_stops_the_program_that_a_cell_waits_for(kernel):
    kernel.ok("let kept = 7;")
    request = kernel.send('let status = std::process::Command::new("sleep").arg("6101").status()?;')
    wait_for(lambda: running("sleep", "6101"))
    begun = time.monotonic()
    kernel.manager.interrupt_kernel()
    cell = kernel.result(request, timeout=20)
    assert cell.reply["ename"] == "Interrupted" and time.monotonic() - begun < 4, cell.traceback
    assert not running("sleep", "6101")
    assert kernel.ok("kept") == "7"


def test_programs_end_with_the_process_that_started_them(kernel):
    for number, end in enumerate([":restart", "std::process::abort();", ":clear"]):
        argument = str(6200 + number)
        kernel.run(f'let c = std::process::Command::new("sh").args(["-c", "sleep {argument}; true"]).spawn()?;')
        wait_for(lambda: running("sleep", argument))
        found = running("sleep", argument)
        kernel.run(end)
        wait_until_gone(found)
    assert kernel.ok("1 + 1") == "2"


@pytest.mark.parametrize("end", ["restart", "shutdown", "kill"])
def test_programs_end_with_the_kernel(end):
    kernel = Kernel()
    try:
        kernel.ok('let c = std::process::Command::new("sleep").arg("6301").spawn()?;')
        found = running("sleep", "6301")
        assert found
        if end == "restart":
            kernel.manager.restart_kernel()
        elif end == "shutdown":
            kernel.manager.shutdown_kernel()
        else:
            os.kill(kernel.manager.provisioner.pid, 9)
        wait_until_gone(found)
    finally:
        if kernel.manager.has_kernel:
            kernel.client.stop_channels()
            kernel.manager.shutdown_kernel(now=True)


def test_a_forked_process_does_not_hide_the_end_of_its_parent(kernel):
    cell = kernel.run(FORK + "if unsafe { fork() } == 0 { loop { std::thread::sleep(std::time::Duration::from_secs(1)); } }")
    assert cell.status == "ok", cell.traceback
    cell = kernel.run("std::process::abort();", timeout=20)
    assert cell.reply["ename"] == "ProcessEnded"
    assert kernel.ok("1 + 1") == "2"


def test_a_forked_process_ends_with_its_cell(kernel):
    # The session has `fork` by that name.
    kernel.ok('unsafe extern "C" { #[link_name = "fork"] fn divide() -> i32; }\nlet child = unsafe { divide() };\nif child == 0 { println!("in the child"); }')
    assert kernel.ok("child > 0") == "true"
    wait_until_gone([int(kernel.ok("child"))])


def kernel_of(program, folder):
    """A kernel of a copy of the program."""
    shutil.copy(HEADSTART, program)
    data = folder / "data"
    kernels = data / "kernels" / "copied"
    kernels.mkdir(parents=True)
    specification = f'{{"argv": ["{program}", "kernel", "--connection-file", "{{connection_file}}"], "display_name": "C", "language": "rust", "interrupt_mode": "message"}}'
    (kernels / "kernel.json").write_text(specification)
    before = os.environ.get("JUPYTER_PATH")
    os.environ["JUPYTER_PATH"] = str(data)
    try:
        return Kernel("copied")
    finally:
        os.environ.pop("JUPYTER_PATH")
        if before is not None:
            os.environ["JUPYTER_PATH"] = before


def test_stop_in_a_command_keeps_the_variables_after_an_upgrade_of_the_program(tmp_path):
    program = tmp_path / "headstart"
    kernel = kernel_of(program, tmp_path)
    try:
        kernel.ok("let kept = 7;")
        shutil.copy(HEADSTART, tmp_path / "new")
        os.rename(tmp_path / "new", program)
        request = kernel.send("!sleep 6401")
        wait_for(lambda: running("sleep", "6401"))
        kernel.manager.interrupt_kernel()
        assert kernel.result(request, timeout=20).reply["ename"] == "Interrupted"
        assert kernel.ok("kept") == "7"
    finally:
        kernel.stop()


@pytest.mark.parametrize("change", ["moved", "deleted", "replaced"])
def test_a_kernel_goes_on_after_its_program_was_moved_deleted_or_replaced(tmp_path, change):
    program = tmp_path / "headstart"
    kernel = kernel_of(program, tmp_path)
    try:
        kernel.ok("let kept = 7;")
        if change == "moved":
            program.rename(tmp_path / "other")
        else:
            program.unlink()
        if change == "replaced":
            shutil.copy("/bin/false", program)
        assert kernel.ok(f'format!("{change} {{kept}}")') == f'"{change} 7"'
        request = kernel.send("!sleep 6402")
        wait_for(lambda: running("sleep", "6402"))
        kernel.manager.interrupt_kernel()
        assert kernel.result(request, timeout=20).reply["ename"] == "Interrupted"
        assert kernel.ok("kept") == "7", "Stop does not reach the process of the cells"
        kernel.ok(":restart")
        assert kernel.ok(f'format!("{change} again")') == f'"{change} again"'
    finally:
        kernel.stop()


def test_stop_ends_a_command_that_runs_this_program(kernel, tmp_path):
    cell = {"cell_type": "code", "source": "std::thread::sleep(std::time::Duration::from_secs(600));", "metadata": {}, "outputs": [], "execution_count": None}
    notebook = tmp_path / "long.ipynb"
    notebook.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [cell]}))
    kernel.ok("let kept = 7;")
    request = kernel.send(f"!exec {HEADSTART} run {notebook}")
    wait_for(lambda: running(str(HEADSTART), "run", str(notebook)))
    found = running(str(HEADSTART), "run", str(notebook))
    kernel.manager.interrupt_kernel()
    assert kernel.result(request, timeout=20).reply["ename"] == "Interrupted"
    wait_until_gone(found)
    assert kernel.ok("kept") == "7"
