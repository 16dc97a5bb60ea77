"""Commands of evcxr and the shell in a cell: where they count, what they show, and what Stop does to them."""

import time

import pytest
from conftest import Kernel, processes, wait_until_gone


def displays(cell):
    return [content["data"]["text/plain"] for content in cell.of_type("display_data", "execute_result")]


def test_commands_before_a_shell_command_show_their_output(kernel):
    kernel.ok("let first = 1;")
    cell = kernel.run(":vars\n!echo hi")
    assert "first" in displays(cell)[0] and cell.stdout == "hi\n"
    kinds = [message["msg_type"] for message in cell.messages]
    assert kinds.index("display_data") < kinds.index("stream")
    assert "A=1" in displays(kernel.run(":env A=1\n!echo"))[0]


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
    for command in (":restart", ":clear", "!exit 1", ":dep nothing-of-this-name = \"99\""):
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
        cell = kernel.run("Tensor::zeros(2, DType::F32, &device())?.elem_count()")
        if cell.status == "error" and cell.reply["ename"] == "Interrupted":
            # The commands had ended before Stop arrived.
            cell = kernel.run("Tensor::zeros(2, DType::F32, &device())?.elem_count()")
        assert cell.value == "2", (delay, cell.traceback)
    # The next process also reacts to Stop.
    request = kernel.send('println!("begun"); loop { check_interrupt()?; std::thread::yield_now(); }')
    while kernel.client.get_iopub_msg(timeout=60)["msg_type"] != "stream":
        pass
    kernel.manager.interrupt_kernel()
    assert kernel.result(request, timeout=20).reply["ename"] == "Interrupted"
    assert kernel.ok("1") == "1"


def test_commands_between_statements_run_in_order(kernel, tmp_path):
    code = (
        'println!("one");\n!echo two\nlet n = 3;\nprintln!("{n}");\n!cat /dev/null; echo four \\\n  five\n'
        "// a comment\n:vars\nstd::fs::write(FILE, n.to_string())?;\n!cat FILE\nn + 3"
    ).replace("FILE", str(tmp_path / "n")).replace("write(", 'write("').replace(", n.to", '", n.to')
    cell = kernel.run(code)
    assert (cell.stdout, cell.value) == ("one\ntwo\n3\nfour five\n3", "6"), cell.traceback
    assert any("n" in text and "i32" in text for text in displays(cell))


def test_a_return_before_a_command_ends_the_cell(kernel):
    kernel.ok("let end = true;")
    cell = kernel.run('println!("one");\nif end { return Ok(()); }\n!echo never\nprintln!("never");')
    assert (cell.status, cell.stdout) == ("ok", "one\n"), cell.traceback
    assert kernel.ok("end") == "true"


def test_a_value_before_a_command_is_a_display(kernel):
    cell = kernel.run("6 * 7\n!echo shown")
    assert displays(cell) == ["42"] and cell.stdout == "shown\n"
    assert cell.of_type("execute_result") == []


def test_an_error_between_commands_stops_the_cell_and_has_its_line(kernel):
    for code, name, line in (
        ('let first = 1;\n!echo begun\nlet é = "x".parse::<u8>()?;\n!echo never', "Error", "3 │ let é"),
        ("let second = 1;\n!echo begun\nno_such_name\n!echo never", "CompileError", "3 │ no_such_name"),
        ("let third = 1;\n!echo begun; exit 3\nlet other = 2;", "CommandFailed", "exit status: 3"),
        ("let fourth = 1;\n!echo begun\n:no_such_command\nlet other = 2;", "Error", ":no_such_command"),
    ):
        cell = kernel.run(code)
        assert cell.stdout == "begun\n", code
        assert cell.status == "error" and line in cell.traceback, cell.traceback
        if name != "Error":
            assert cell.reply["ename"] == name, cell.traceback
    assert kernel.ok("first + second + third + fourth") == "4"
    assert kernel.run(":cache 100\n!echo never").stdout == ""
    assert kernel.run("println!();\n!echo never\n:cache 100\n1").stdout == "", "a refused command is found before"


def test_stop_between_commands_keeps_what_has_run(kernel):
    for code in ("let kept = 1;\n!echo begun; sleep 30\nlet never = 2;", "let kept = 1;\n!echo begun\nloop { check_interrupt()?; std::thread::yield_now(); }\n!echo never"):
        request = kernel.send(code)
        while True:
            message = kernel.client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") == request and message["msg_type"] == "stream":
                break
        kernel.manager.interrupt_kernel()
        cell = kernel.result(request, timeout=20)
        assert cell.reply["ename"] == "Interrupted" and "never" not in cell.stdout
        assert kernel.ok("kept") == "1"
        assert kernel.run("never").status == "error"


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("!true", "false"),
        ("!0u8", "255"),
        ("!list.is_empty()", "true"),
        ("!(list.is_empty() || done)", "true"),
        ("!done", "true"),
        ("let here = true;\n!here", "false"),
        ("let n = 1;\n!done", "true"),
        ("let a = f64::NAN\n    .max(1.0)\n;\n!list\n    .iter()\n    .any(|x| *x > 2)", "true"),
        ("let x\n:f64 = 1.5;\nx", "1.5"),
        ("::std::cmp::max(1, 2)", "2"),
        ("  ::std::cmp::max(\n1, 3)", "3"),
        ("#![allow(unused)]\n!list.is_empty()", "true"),
        ('let text = r#"\n!ls\n:vars\n%time"#;\ntext.len()', "16"),
        ("macro_rules! m { (:vars) => { 5 } }\nm!(\n:vars\n)", "5"),
    ],
)
def test_lines_of_rust_are_no_commands(kernel, code, value):
    kernel.ok("let list = vec![1, 2]; let done = false;")
    assert kernel.run(code).value == value, kernel.run(code).traceback


def test_a_command_with_the_form_of_an_expression_is_explained(kernel):
    cell = kernel.run("!no_such_thing")
    assert cell.reply["ename"] == "CommandFailed" and "write `(!no_such_thing)`" in cell.traceback
    assert kernel.run("println!();\n!pwd").stdout.strip() != ""
    cell = kernel.run("let a = 5\n!pwd")
    assert cell.status == "error" and "between whole statements" in cell.traceback


def test_a_failed_dependency_is_announced_again(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "lib.rs").write_text("pub fn one() -> i32 { 1 }\n")
    kernel = Kernel()
    try:
        kernel.ok("struct P { x: u8 }\nlet p = P { x: 1 };")
        dependency = f':dep mine = {{ path = "{tmp_path}" }}'
        failed = kernel.run(dependency)
        assert failed.status == "error" and "`p` will be lost" in failed.stderr
        (tmp_path / "Cargo.toml").write_text('[package]\nname = "mine"\nversion = "0.1.0"\nedition = "2024"\n')
        # A cell that does not compile adds nothing either.
        assert "`p` will be lost" in kernel.run(f"{dependency}\nno_such_name").stderr
        cell = kernel.run(f"{dependency}\n1")
        assert cell.value == "1" and "`p` will be lost" in cell.stderr, cell.traceback
        kernel.ok("let q = P { x: 1 };")
        assert "will be lost" not in kernel.run(dependency).stderr
    finally:
        kernel.stop()


def test_the_format_of_values_outlives_the_process(kernel):
    kernel.ok(":fmt {:#?}")
    pretty = "[\n    1,\n]"
    assert kernel.ok("vec![1]") == pretty
    kernel.run(":restart")
    assert kernel.ok("vec![1]") == pretty
    kernel.run("std::process::abort();")
    assert kernel.ok("vec![1]") == pretty
    kernel.run(":clear")
    assert kernel.ok("vec![1]") == pretty
    kernel.ok(":fmt")
    assert kernel.ok("vec![1]") == "[1]"


def test_a_shell_command_runs_in_the_folder_of_the_cells(tmp_path):
    kernel = Kernel()
    try:
        kernel.ok(f'std::env::set_current_dir("{tmp_path}")?;')
        kernel.ok('std::fs::write("here", "text")?;')
        assert kernel.run("!cat here; pwd").stdout == f"text{tmp_path}\n"
    finally:
        kernel.stop()


@pytest.mark.parametrize("command", [":clear // all", ":restart now"])
def test_an_argument_does_not_change_a_command(kernel, command):
    kernel.ok("let gone = 1;")
    kernel.run(command)
    assert kernel.ok("Tensor::zeros(2, DType::F32, &device())?.elem_count()") == "2"
    assert kernel.run("gone").status == "error"


def test_a_command_after_code_that_fails_does_not_run(kernel):
    kernel.ok("let kept = 1;")
    for code in ('"x".parse::<i32>()?;\n:clear', 'panic!("boo");\n:restart', "if kept > 0 { return Ok(()) }\n:clear"):
        kernel.run(code)
        assert kernel.ok("kept") == "1", code


def test_a_program_in_the_background_ends_with_the_kernel(tmp_path):
    kernel = Kernel()
    cell = kernel.run("!sleep 600 & echo $!")
    number = int(cell.stdout)
    assert number in processes()
    kernel.stop()
    wait_until_gone([number])


def test_text_before_an_error_is_no_part_of_it(kernel):
    for form, text in (("{:?}", "ParseIntError { kind: InvalidDigit }"), ("{:#?}", "ParseIntError {\n    kind: InvalidDigit,\n}")):
        kernel.ok(f":efmt {form}")
        cell = kernel.run('eprintln!("warming up");\n"x".parse::<i32>()?;')
        assert cell.stderr == "warming up\n" and text in cell.traceback, cell.traceback
        assert "2 │ " in cell.traceback
    kernel.ok(":efmt {}")
    assert "invalid digit" in kernel.run('"x".parse::<i32>()?;').traceback


def test_the_macro_of_a_call_is_described(kernel):
    for code in ('println!("x")', "vec![1]", "sequential![]"):
        found = kernel.client.inspect(code, 3, reply=True, timeout=60)["content"]
        assert found["found"] and code.split("!")[0] in found["data"]["text/plain"], code


def test_a_long_value_is_shown_in_part(kernel):
    text = kernel.ok("vec![0.5; 10_000_000]")
    assert len(text) < 200_000 and text.startswith("[0.5, 0.5") and text.endswith("is not shown)")


def test_a_variant_beside_a_variable_is_no_variable(kernel):
    kernel.ok("#[derive(Debug, Clone, Copy, PartialEq)] enum Color { Red, Green }\nuse Color::*;\nlet c = Red;")
    kernel.ok('let (Red, n) = (c, 5) else { panic!("not red") };')
    assert kernel.ok("(c == Red, n)") == "(true, 5)"
    assert "not red" in kernel.run('let Green = c else { panic!("not red") };').traceback
