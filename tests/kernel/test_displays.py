"""Contents and other outputs of a cell: each is shown once, in order, and with the right meaning."""

import time

import pytest
from conftest import Kernel

HTML = 'println!("EVCXR_BEGIN_CONTENT text/html\\n<b>{}</b>\\nEVCXR_END_CONTENT", NAME);'


def html(name):
    return HTML.replace("NAME", f'"{name}"')


def order(cell):
    """The outputs of a cell in order: text, or HTML, or the plain text of the value."""
    found = []
    for message in cell.messages:
        content = message["content"]
        if message["msg_type"] == "stream":
            found.append(content["text"].strip())
        elif message["msg_type"] in ("display_data", "execute_result"):
            found.append(content["data"].get("text/html", content["data"].get("text/plain")))
    return found


def test_a_content_stands_before_the_text_after_it(kernel):
    assert order(kernel.run(f'{html("x")}\nprintln!("after");')) == ["<b>x</b>", "after"]
    assert order(kernel.run(f'println!("before");\n{html("x")}\nprintln!("after");\n42')) == ["before", "<b>x</b>", "after", "42"]


def test_two_formats_of_a_value_are_one_output(kernel):
    code = 'println!("EVCXR_BEGIN_CONTENT text/html\\n<b>x</b>\\nEVCXR_END_CONTENT\\nEVCXR_BEGIN_CONTENT text/plain\\nx\\nEVCXR_END_CONTENT");'
    cell = kernel.run(code)
    assert cell.of_type("display_data", "execute_result")[0]["data"] == {"text/html": "<b>x</b>", "text/plain": "x"}


def content(mime, text):
    return f'println!("EVCXR_BEGIN_CONTENT {mime}\\n{text}\\nEVCXR_END_CONTENT");'


@pytest.mark.parametrize("end", ["", "()", "let last = 1;"])
def test_two_contents_of_different_formats_are_two_outputs(kernel, end):
    cell = kernel.run(content("text/html", "<b>x</b>") + content("image/png", "iVBORw0KGgo=") + end)
    data = [shown["data"] for shown in cell.of_type("display_data", "execute_result")]
    assert data == [{"text/html": "<b>x</b>"}, {"image/png": "iVBORw0KGgo="}]


def test_two_contents_in_one_print_are_two_outputs(kernel):
    blocks = "EVCXR_BEGIN_CONTENT text/html\\n<i>y</i>\\nEVCXR_END_CONTENT\\nEVCXR_BEGIN_CONTENT image/png\\niVBORw0KGgo=\\nEVCXR_END_CONTENT"
    cell = kernel.run(f'println!("{blocks}");\nvec![1, 2]')
    data = [shown["data"] for shown in cell.of_type("display_data", "execute_result")]
    assert data == [{"text/html": "<i>y</i>"}, {"image/png": "iVBORw0KGgo="}, {"text/plain": "[1, 2]"}]


def test_a_text_belongs_to_the_content_beside_it(kernel):
    code = content("text/plain", "x") + content("image/png", "iVBORw0KGgo=") + content("text/html", "<b>y</b>") + content("text/plain", "y")
    data = [shown["data"] for shown in kernel.run(code).of_type("display_data", "execute_result")]
    assert data == [{"text/plain": "x", "image/png": "iVBORw0KGgo="}, {"text/html": "<b>y</b>", "text/plain": "y"}]


def test_all_formats_of_the_last_value_are_one_output(kernel):
    formats = content("text/html", "<b>x</b>") + content("image/png", "iVBORw0KGgo=") + content("text/plain", "x")
    cell = kernel.run("struct Rich; impl Rich { fn evcxr_display(&self) { FORMATS } }\nRich".replace("FORMATS", formats))
    assert cell.of_type("display_data") == []
    [result] = cell.of_type("execute_result")
    assert result["data"] == {"text/html": "<b>x</b>", "image/png": "iVBORw0KGgo=", "text/plain": "x"}


def test_values_of_the_prelude_are_separate_outputs(kernel):
    code = 'Text::new("a").evcxr_display();\n' + content("text/html", "<b>b</b>") + '\nText::new("c")'
    data = [shown["data"] for shown in kernel.run(code).of_type("display_data", "execute_result")]
    assert data == [{"text/plain": "a"}, {"text/html": "<b>b</b>"}, {"text/plain": "c"}]


def test_a_content_of_a_thread_between_cells_is_shown(kernel):
    request = kernel.send(f"let t = std::thread::spawn(|| {{ std::thread::sleep(std::time::Duration::from_millis(800)); {html('late')} }});")
    kernel.result(request)
    while True:
        message = kernel.client.get_iopub_msg(timeout=10)
        if message["msg_type"] == "display_data":
            break
    assert message["content"]["data"] == {"text/html": "<b>late</b>"}
    assert message["parent_header"]["msg_id"] == request


def test_output_of_threads_is_shown_while_a_question_is_open(kernel):
    code = (
        'let t = std::thread::spawn(|| for i in 0..60 { println!("tick {i}"); std::thread::sleep(std::time::Duration::from_millis(50)); });\n'
        'let n = input("Name? ")?; println!("{n}");'
    )
    request = kernel.send(code, allow_stdin=True)
    kernel.client.get_stdin_msg(timeout=60)
    text = ""
    while "tick 40" not in text:
        message = kernel.client.get_iopub_msg(timeout=10)
        if message["msg_type"] == "stream":
            text += message["content"]["text"]
    kernel.client.input("Ada")
    assert "Ada\n" in kernel.result(request).stdout
    kernel.ok("t.join().is_ok()")


def test_a_character_in_two_parts_is_whole_on_standard_error(kernel):
    code = (
        'unsafe extern "C" { fn write(to: i32, text: *const u8, length: usize) -> isize; }\n'
        'unsafe { write(2, b"\\xc3".as_ptr(), 1) }; println!("x");\n'
        "std::thread::sleep(std::time::Duration::from_millis(100));\n"
        'unsafe { write(2, b"\\xa9".as_ptr(), 1) };'
    )
    cell = kernel.run(code)
    assert (cell.stdout, cell.stderr) == ("x\n", "é")


def test_a_panic_that_ends_the_process_is_its_cause():
    kernel = Kernel()
    try:
        cell = kernel.run('extern "C" fn f() { panic!("boom") }\nf();')
        assert cell.reply["ename"] == "ProcessEnded" and "a panic ended it: boom" in cell.traceback
        assert "caught" not in cell.stderr and "recursion" not in cell.traceback
        cell = kernel.run('let _ = std::panic::catch_unwind(|| panic!("mild")); 1')
        assert cell.value == "1" and cell.stderr == "a panic was caught: mild\n"
    finally:
        kernel.stop()


def test_output_of_threads_during_user_expressions_is_shown(kernel):
    kernel.ok('let t = std::thread::spawn(|| for i in 0..40 { println!("tock {i}"); std::thread::sleep(std::time::Duration::from_millis(50)); });')
    texts, begun = [], time.monotonic()
    while time.monotonic() - begun < 1:
        texts.append(kernel.run("1", user_expressions={"a": "2"}).stdout)
    kernel.ok("t.join().is_ok()")
    assert texts and "tock" in "".join(texts)


def test_a_format_that_does_not_fit_its_schema_hides_no_other(kernel):
    code = (
        'println!("EVCXR_BEGIN_CONTENT text/plain\nhello\nEVCXR_END_CONTENT\n'
        'EVCXR_BEGIN_CONTENT application/vnd.dataresource+json\n{{\"data\": []}}\nEVCXR_END_CONTENT");'
    ).replace("\n", "\\n").replace("\"data\"", '\\"data\\"')
    data = kernel.run(code).of_type("display_data", "execute_result")[0]["data"]
    assert data == {"text/plain": "hello", "application/vnd.dataresource+json": {"data": []}}


@pytest.mark.parametrize("redefinition", ["let [a, b] = [10, 20];", "let (a, [b]) = (10, [20]);", "let (Ok(a) | Err(a)) = [1, 3].binary_search(&2).map(|_| 0).or(Err::<i32, i32>(10)); let &b = &20;"])
def test_a_redefinition_by_any_pattern_replaces_the_old_value(kernel, redefinition):
    kernel.ok("let a = 1; let b = 2;")
    kernel.ok(redefinition)
    assert kernel.ok("(a, b)") == "(10, 20)"


def test_a_pattern_without_variables_defines_none(kernel):
    kernel.ok('let None = "x".find(\'y\') else { panic!() };')
    assert kernel.ok("1 + 1") == "2"


@pytest.mark.parametrize("code", ["fn twice() -> i32 { 2 * n }", "let m = 1;\nfn thrice() -> i32 { 3 * m }"])
def test_a_variable_in_a_function_is_explained(kernel, code):
    kernel.ok("let n = 5;")
    cell = kernel.run(code)
    assert cell.status == "error" and "functions cannot use variables outside them" in cell.traceback
    assert "no cell has defined" not in cell.traceback


def test_an_error_in_a_pattern_has_its_line(kernel):
    cell = kernel.run("let v: Vec<i32> = vec![];\nlet [a, b] = [v[0], 1];\na + b")
    assert cell.reply["ename"] == "Panic" and "2 │ let [a, b]" in cell.traceback


def test_a_value_that_takes_a_variable_of_its_cell_is_shown_with_its_figure(kernel):
    cell = kernel.run("let part = sequential![Input::new(3), Dense::new(2)]?;\nsequential![part, Activation::Linear]?.plot()")
    assert "image/svg+xml" in cell.of_type("execute_result")[0]["data"]
    # The next cell sees that the variable was moved.
    assert kernel.run("part").reply["status"] == "error"
