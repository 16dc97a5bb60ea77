"""The variables pane: JupyterLab asks for variables through the debugger's messages."""

import time

import pytest


@pytest.fixture
def ask(kernel):
    """Sends a debugger's request on the control channel and returns the reply."""
    count = iter(range(1, 1000))

    def ask(command, **arguments):
        message = kernel.client.session.msg(
            "debug_request", {"type": "request", "seq": next(count), "command": command, "arguments": arguments}
        )
        kernel.client.control_channel.send(message)
        while True:
            reply = kernel.client.get_control_msg(timeout=30)
            if reply["parent_header"]["msg_id"] == message["header"]["msg_id"]:
                content = reply["content"]
                assert (content["type"], content["command"]) == ("response", command)
                return content

    return ask


def variables(ask):
    reply = ask("inspectVariables")
    assert reply["success"]
    return {row["name"]: (row["type"], row["value"]) for row in reply["body"]["variables"]}


def test_the_kernel_has_variables_to_show(kernel, ask):
    info = kernel.client.kernel_info(reply=True, timeout=30)["content"]
    assert info["debugger"] is True
    before = ask("debugInfo")["body"]
    assert (before["isStarted"], before["stoppedThreads"], before["richRendering"]) == (False, [], True)
    assert ask("initialize", clientID="test")["success"] and ask("attach")["success"]
    assert ask("debugInfo")["body"]["isStarted"]
    assert ask("setBreakpoints", breakpoints=[{"line": 1}])["body"] == {"breakpoints": []}
    assert ask("disconnect")["success"] and not ask("debugInfo")["body"]["isStarted"]
    unknown = ask("evaluate", expression="1")
    assert not unknown["success"] and "no debugger" in unknown["message"]


def test_variables_have_types_and_values(kernel, ask):
    kernel.ok(
        "let t = Tensor::zeros((2, 3), DType::F32, &device())?; let n = 5; let list = vec![1.5, 2.5];"
        'let name = String::from("a"); let mut model = sequential![Input::new(4), Dense::new(2)]?;'
        "struct Mine; let mine = Mine;"
    )
    found = variables(ask)
    assert found["t"] == ("Tensor", "[2, 3] f32") or found["t"][1] == "[2, 3] f32", found["t"]
    assert found["n"] == ("i32", "5") and found["name"][1] == '"a"'
    assert found["list"] == ("Vec<f64>", "2 values: [1.5, 2.5]")
    assert "10 parameters" in found["model"][1] and found["model"][0].endswith("Model")
    assert found["mine"] == ("Mine", "Mine")
    kernel.ok("let n = 6; drop(list);")
    found = variables(ask)
    assert found["n"] == ("i32", "6") and "list" not in found
    kernel.run('let n = 7; panic!("boo");')
    assert variables(ask)["n"] == ("i32", "6")


def test_a_value_is_shown_as_in_a_cell(kernel, ask):
    kernel.ok("let pixels = random_uniform((3, 20, 20), 0.0, 1.0)?;")
    count = kernel.run("1").reply["execution_count"]
    rich = ask("richInspectVariables", variableName="pixels")
    assert rich["success"] and {"text/plain", "image/svg+xml"} <= set(rich["body"]["data"])
    assert not ask("richInspectVariables", variableName="nothing")["success"]
    assert kernel.run("2").reply["execution_count"] == count + 1


def test_variables_are_shown_while_a_cell_runs(kernel, ask):
    kernel.ok("let shown = 1;")
    request = kernel.send("println!(\"begun\"); std::thread::sleep(std::time::Duration::from_secs(3));")
    while kernel.client.get_iopub_msg(timeout=60)["msg_type"] != "stream":
        pass
    begin = time.monotonic()
    assert variables(ask)["shown"] == ("i32", "1")
    assert ask("richInspectVariables", variableName="shown")["body"]["data"] == {"text/plain": "1"}
    assert time.monotonic() - begin < 2
    kernel.result(request)


def test_variables_of_an_ended_process_are_gone(kernel, ask):
    kernel.ok("let lost = 1;")
    kernel.run("std::process::exit(1);")
    assert variables(ask) == {}
