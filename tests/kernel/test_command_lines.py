"""Commands of evcxr and the shell in a cell: where they count, what they show, and what Stop does to them."""

import time

import pytest
from conftest import Kernel


def displays(cell):
    return [content["data"]["text/plain"] for content in cell.of_type("display_data", "execute_result")]


def test_commands_before_a_shell_command_show_their_output(kernel):
    kernel.ok("let first = 1;")
    cell = kernel.run(":vars\n!echo hi")
    assert "first" in displays(cell)[0] and cell.stdout == "hi\n"
    kinds = [message["msg_type"] for message in cell.messages]
    assert kinds.index("display_data") < kinds.index("stream")
    assert "A=1" in displays(kernel.run(":env A=1\n!true"))[0]


def test_a_command_in_a_string_or_a_comment_is_text(kernel):
    kernel.ok("let kept = 7;")
    cell = kernel.run('let help = "commands:\n:quit\n:clear\n:restart\n:vars";\n/*\n:quit\n:clear\n*/\nhelp.len()')
    assert cell.value == str(len("commands:\n:quit\n:clear\n:restart\n:vars")), cell.traceback
    time.sleep(0.5)
    assert kernel.ok("kept") == "7"
    kernel.client.is_complete('let help = "\n:vars";\n')
    assert kernel.client.get_shell_msg(timeout=10)["content"]["status"] == "complete"


def test_completion_and_inspection_run_no_command(kernel):
    kernel.ok("let kept = vec![7];")
    for command in (":restart", ":clear", "!false", ":dep nothing-of-this-name = \"99\""):
        code = f"{command}\nlet v = vec![1];\nv."
        found = kernel.client.complete(code, reply=True, timeout=60)["content"]
        assert any(match.startswith("len") for match in found["matches"]), command
        code = f"{command}\nString::new()"
        assert kernel.client.inspect(code, len(code) - 3, reply=True, timeout=60)["content"]["status"] == "ok"
    assert kernel.ok("kept[0]") == "7"
    assert ":vars" in kernel.client.complete(":va", reply=True, timeout=60)["content"]["matches"]


def test_a_shell_command_may_be_indented_and_continue(kernel):
    assert kernel.run("  !echo a \\\n  b\n1").stdout == "a b\n"


def test_commands_that_replace_the_compiler_are_refused(kernel):
    for command in (":cache 100", ":toolchain nightly", ":allow_static_linking 0", " :sccache 1"):
        cell = kernel.run(command)
        assert cell.status == "error" and "hint: remove the line" in cell.traceback, command
    assert kernel.ok("1 + 1") == "2"


def test_an_error_of_a_command_after_code_has_its_position(kernel):
    cell = kernel.run("let fine = 1;\n\n:no_such_command")
    assert cell.status == "error" and ":no_such_command" in cell.traceback and "let fine" not in cell.traceback


def test_a_dependency_before_a_shell_command_announces_what_it_loses(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "Cargo.toml").write_text('[package]\nname = "mine"\nversion = "0.1.0"\nedition = "2024"\n')
    (tmp_path / "src" / "lib.rs").write_text("pub fn one() -> i32 { 1 }\n")
    kernel = Kernel()
    try:
        kernel.ok("struct P { x: u8 }\nlet p = P { x: 1 };")
        dependency = f':dep mine = {{ path = "{tmp_path}" }}\n!echo hi'
        cell = kernel.run(dependency)
        assert "`p` will be lost" in cell.stderr and cell.stdout == "hi\n"
        kernel.ok("let q = P { x: 1 };")
        assert "will be lost" not in kernel.run(dependency).stderr
        assert kernel.ok("q.x") == "1"
    finally:
        kernel.stop()


def test_stop_after_restart_says_what_is_gone(kernel):
    kernel.ok("let a = 1;")
    request = kernel.send(":restart\n!echo begun; sleep 30")
    while True:
        message = kernel.client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") == request and message["msg_type"] == "stream":
            break
    kernel.manager.interrupt_kernel()
    cell = kernel.result(request, timeout=20)
    assert cell.reply["ename"] == "Interrupted" and "it had removed a" in cell.reply["evalue"]
    assert "`a` was cleared" in kernel.run("a").traceback


def test_a_cell_sees_the_current_build_environment(kernel):
    for value in ("one", "two"):
        kernel.ok(f":build_env GREETING={value}")
        assert kernel.ok('env!("GREETING")') == f'"{value}"'


@pytest.mark.parametrize("command", [":clear", ":restart"])
def test_stop_while_the_process_is_replaced_leaves_a_usable_kernel(kernel, command):
    for delay in (0, 0.1, 0.2, 0.4, 0.8):
        request = kernel.send(f"{command}\n1")
        time.sleep(delay)
        kernel.manager.interrupt_kernel()
        kernel.result(request, timeout=30)
        assert kernel.ok("Tensor::zeros(2, DType::F32, &device())?.elem_count()") == "2", delay
    # The next process also reacts to Stop.
    request = kernel.send('println!("begun"); loop { check_interrupt()?; std::thread::yield_now(); }')
    while kernel.client.get_iopub_msg(timeout=60)["msg_type"] != "stream":
        pass
    kernel.manager.interrupt_kernel()
    assert kernel.result(request, timeout=20).reply["ename"] == "Interrupted"
    assert kernel.ok("1") == "1"
