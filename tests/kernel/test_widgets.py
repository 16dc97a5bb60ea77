"""Widgets: comms in both directions, values, callbacks, and what happens while a cell runs."""

import time
from queue import Empty

import pytest

VIEW = "application/vnd.jupyter.widget-view+json"


class Front:
    """The client's side of the widgets: it keeps the state of each comm."""

    def __init__(self, kernel):
        self.kernel = kernel
        self.state, self.opened = {}, {}

    def run(self, code):
        cell = self.kernel.run(code)
        self.see(cell.messages)
        return cell

    def see(self, messages):
        for message in messages:
            content = message["content"]
            if message["msg_type"] == "comm_open":
                assert content["target_name"] == "jupyter.widget"
                assert message["metadata"]["version"].startswith("2.")
                self.opened[content["comm_id"]] = message["parent_header"]["msg_id"]
                self.state[content["comm_id"]] = content["data"]["state"]
            elif message["msg_type"] == "comm_msg" and content["data"]["method"] == "update":
                self.state[content["comm_id"]] |= content["data"]["state"]

    def shown(self, cell):
        """The comm of the widget that a cell shows."""
        bundles = [content["data"] for content in cell.of_type("execute_result", "display_data")]
        return next(bundle[VIEW]["model_id"] for bundle in bundles if VIEW in bundle)

    def send(self, comm, data, buffers=None):
        session = self.kernel.client.session
        message = session.msg("comm_msg", {"comm_id": comm, "data": data})
        session.send(self.kernel.client.shell_channel.socket, message, buffers=buffers)
        return message["header"]["msg_id"]

    def set(self, comm, **state):
        return self.send(comm, {"method": "update", "state": state, "buffer_paths": []})

    def click(self, comm):
        return self.send(comm, {"method": "custom", "content": {"event": "click"}})

    def until(self, wanted, timeout=20):
        """Receives messages until one is wanted, and returns it."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            try:
                message = self.kernel.client.get_iopub_msg(timeout=1)
            except Empty:
                continue
            self.see([message])
            if wanted(message):
                return message
        raise AssertionError("the message did not arrive")

    def interrupt(self):
        """Presses Stop, and waits until the kernel has handled it."""
        self.kernel.manager.interrupt_kernel()
        state = ("status", "idle", "interrupt_request")
        self.until(
            lambda m: (m["msg_type"], m["content"].get("execution_state"), m["parent_header"].get("msg_type")) == state
        )

    def text(self, text):
        """The message of a stream that contains a text."""
        return self.until(lambda m: m["msg_type"] == "stream" and text in m["content"]["text"])


@pytest.fixture
def front(kernel):
    return Front(kernel)


def test_a_slider_is_opened_shown_moved_and_read(front):
    cell = front.run('let rate = FloatSlider::new(0.1).min(0.0).max(1.0).step(0.01).description("rate");\nrate.clone()')
    comm = front.shown(cell)
    state = front.state[comm]
    assert (state["_model_name"], state["_view_name"]) == ("FloatSliderModel", "FloatSliderView")
    assert (state["_model_module"], state["_model_module_version"]) == ("@jupyter-widgets/controls", "2.0.0")
    assert (state["value"], state["min"], state["max"], state["description"]) == (0.1, 0.0, 1.0, "rate")
    layout = state["layout"].removeprefix("IPY_MODEL_")
    assert front.state[layout]["_model_name"] == "LayoutModel"
    data = cell.of_type("execute_result")[0]["data"]
    assert data["text/plain"] == "FloatSlider rate: 0.1" and "<input" in data["text/html"]
    front.set(comm, value=0.25)
    assert front.run("rate.value()").value == "0.25"
    front.run("rate.set_value(0.5);")
    assert front.state[comm]["value"] == 0.5
    again = front.run("rate.clone()")
    assert front.shown(again) == comm and not again.of_type("comm_open"), "one model, two views"


def test_a_change_by_one_client_reaches_the_others(front, kernel):
    comm = front.shown(front.run("let shared = IntSlider::new(3); shared.clone()"))
    other = kernel.manager.client()
    other.start_channels()
    try:
        other.wait_for_ready(timeout=20)
        front.set(comm, value=8)
        end = time.monotonic() + 20
        while (message := other.get_iopub_msg(timeout=20))["msg_type"] != "comm_msg":
            assert time.monotonic() < end
        expected = {"method": "echo_update", "state": {"value": 8}, "buffer_paths": []}
        assert message["content"] == {"comm_id": comm, "data": expected}
    finally:
        other.stop_channels()


def test_comms_are_listed_and_their_state_is_known(front, kernel):
    comm = front.shown(front.run("let listed = IntSlider::new(3); listed.clone()"))
    front.set(comm, value=7)
    assert front.run("listed.value()").value == "7"
    listed = kernel.client.comm_info(target_name="jupyter.widget", reply=True, timeout=10)["content"]["comms"]
    assert listed[comm] == {"target_name": "jupyter.widget"}
    assert kernel.client.comm_info(target_name="other", reply=True, timeout=10)["content"]["comms"] == {}
    # Also while a cell runs: a page is loaded again.
    request = kernel.send("std::thread::sleep(std::time::Duration::from_secs(3));")
    front.send(comm, {"method": "request_state"})
    update = front.until(lambda m: m["msg_type"] == "comm_msg" and m["content"]["comm_id"] == comm, timeout=2)
    assert update["content"]["data"]["state"]["value"] == 7
    kernel.result(request)
    unknown = front.send("unknown", {"method": "request_state"})
    front.until(lambda m: m["msg_type"] == "comm_close" and m["parent_header"]["msg_id"] == unknown)


def test_callbacks_run_between_cells_below_the_cell_that_shows_the_widget(front):
    cell = front.run(
        'let count = IntSlider::new(0); count.on_change(|n| println!("count {n}")); count.on_change(|n| eprintln!("seen {n}"));\n'
        "count.clone()"
    )
    comm, parent = front.shown(cell), cell.messages[0]["parent_header"]["msg_id"]
    front.run('println!("a later cell");')
    front.set(comm, value=4)
    assert front.text("count 4")["parent_header"]["msg_id"] == parent
    assert front.text("seen 4")["parent_header"]["msg_id"] == parent
    front.run("count.set_value(5);")
    assert front.run("count.value()").stdout == "", "no callback for a change by a cell"
    cell = front.run('println!("mine");')
    assert cell.stdout == "mine\n"


def test_a_button_is_pressed_and_a_callback_changes_other_widgets(front):
    front.run('let label = Label::new("ready"); let train = Button::new("Train");')
    label = front.shown(front.run("label.clone()"))
    train = front.shown(front.run("train.on_click({ let (label, mut n) = (label.clone(), 0); move || { n += 1; label.set_value(&format!(\"pressed {n}\")) } }); train.clone()"))
    for turn in (1, 2):
        front.click(train)
        front.until(lambda m: m["msg_type"] == "comm_msg" and m["content"]["comm_id"] == label)
        assert front.state[label]["value"] == f"pressed {turn}"


def test_a_running_cell_reads_the_value_that_the_user_chooses(front, kernel):
    comm = front.shown(front.run('let live = IntSlider::new(0); live.on_change(|n| println!("after {n}")); live.clone()'))
    request = kernel.send(
        'println!("begun"); while live.value() < 9 { check_interrupt()?; std::thread::sleep(std::time::Duration::from_millis(5)); } println!("reached");'
    )
    front.text("begun")
    front.set(comm, value=9)
    reached = front.text("reached")
    assert reached["parent_header"]["msg_id"] == request, "the callback has not run yet"
    assert front.text("after 9")["parent_header"]["msg_id"] != request


def test_errors_and_panics_of_callbacks_are_shown(front):
    code = """let risky = Button::new("risky");
risky.on_click(|| if true { panic!("boo") });
risky.on_click(|| -> HeadstartResult<()> { std::fs::read("/no/such/file").map_err(|e| candle_core::Error::msg(e))?; Ok(()) });
risky.clone()"""
    cell = front.run(code)
    assert cell.status == "ok", cell.traceback
    front.click(front.shown(cell))
    shown = ""
    while "the callback of the Button failed: " not in shown:
        shown += front.text("")["content"]["text"]
    assert "the callback of the Button panicked: boo" in shown and "No such file" in shown
    assert front.run("1 + 1").value == "2"


def test_stop_ends_a_callback_and_keeps_the_variables(front, kernel):
    front.run('let kept = 1; let slow = Button::new("slow");')
    code = 'slow.on_click(|| -> HeadstartResult<()> { println!("working"); loop { check_interrupt()?; std::thread::sleep(std::time::Duration::from_millis(5)); } }); slow.clone()'
    comm = front.shown(front.run(code))
    front.click(comm)
    front.text("working")
    kernel.manager.interrupt_kernel()
    front.text("interrupted")
    assert front.run("kept").value == "1"
    # A cell that is sent meanwhile begins after the callback; Stop ends both.
    front.click(comm)
    front.text("working")
    request = kernel.send("kept + 1")
    time.sleep(2)
    kernel.manager.interrupt_kernel()
    front.text("interrupted")
    kernel.result(request, timeout=30)
    assert front.run("kept").value == "1"


@pytest.mark.parametrize("is_waiting", [False, True])
def test_a_second_stop_ends_the_process_of_a_callback(front, kernel, is_waiting):
    front.run('let endless = Button::new("endless"); let gone = 1;')
    comm = front.shown(front.run('endless.on_click(|| { println!("working"); for _ in 0.. { std::thread::sleep(std::time::Duration::from_millis(5)); } }); endless.clone()'))
    front.click(comm)
    front.text("working")
    front.interrupt()
    # The second press comes before a cell, or while the cell waits for the callback.
    if is_waiting:
        request = kernel.send("gone")
        front.until(lambda m: m["msg_type"] == "execute_input")
    front.interrupt()
    if not is_waiting:
        request = kernel.send("gone")
    front.until(lambda m: m["msg_type"] == "comm_close" and m["content"]["comm_id"] == comm)
    assert kernel.result(request).reply["ename"] == "ProcessEnded"
    assert kernel.client.comm_info(reply=True, timeout=10)["content"]["comms"] == {}
    assert kernel.ok("1 + 1") == "2"


def test_the_kernel_ends_while_a_callback_runs():
    from conftest import Kernel

    kernel = Kernel()
    front = Front(kernel)
    code = 'let b = Button::new("b"); b.on_click(|| { println!("working"); for _ in 0.. { std::thread::sleep(std::time::Duration::from_millis(5)); } }); b.clone()'
    front.click(front.shown(front.run(code)))
    front.text("working")
    begin = time.monotonic()
    kernel.stop()
    assert time.monotonic() - begin < 4


def test_a_file_is_uploaded_and_an_image_has_its_bytes(front):
    comm = front.shown(front.run('let upload = FileUpload::new().accept(".bin"); upload.clone()'))
    file = {"name": "a.bin", "type": "", "size": 3, "last_modified": 0}
    data = {"method": "update", "state": {"value": [file]}, "buffer_paths": [["value", 0, "content"]]}
    front.send(comm, data, buffers=[b"\x00\x01\xff"])
    assert front.run("(upload.value()[0].name.clone(), upload.value()[0].content.clone())").value == '("a.bin", [0, 1, 255])'
    cell = front.run("ImageView::new(vec![137, 80, 78, 71]).width(10)")
    opened = [m for m in cell.messages if m["msg_type"] == "comm_open" and m["content"]["data"]["buffer_paths"]]
    assert [bytes(buffer) for buffer in opened[0]["buffers"]] == [b"\x89PNG"]


def test_other_controls(front):
    comm = front.shown(front.run('let list = Dropdown::new(["Adam", "SGD"]); list.clone()'))
    assert front.state[comm]["_options_labels"] == ["Adam", "SGD"]
    front.set(comm, index=1)
    assert front.run("list.value()").value == '"SGD"'
    comm = front.shown(front.run("let check = Checkbox::new(false); check.clone()"))
    front.set(comm, value=True)
    assert front.run("check.value()").value == "true"
    comm = front.shown(front.run('let field = TextInput::new("a"); field.clone()'))
    front.set(comm, value="é\n\x1f")
    assert front.run("field.value()").value == '"é\\n\\u{1f}"'
    comm = front.shown(front.run('let area = Output::new(); area.println("first"); area.clone()'))
    front.run('area.show(&Text::new("second"));')
    texts = [output.get("text") or output["data"]["text/plain"] for output in front.state[comm]["outputs"]]
    assert texts == ["first\n", "second"]


def test_a_restarted_process_closes_its_widgets(front, kernel):
    comm = front.shown(front.run("Checkbox::new(true)"))
    front.run(":restart")
    assert comm not in kernel.client.comm_info(reply=True, timeout=10)["content"]["comms"]


def test_many_changes_do_not_delay_a_cell(front):
    comm = front.shown(front.run('let fast = IntSlider::new(0).max(1000); fast.on_change(|_| std::thread::sleep(std::time::Duration::from_millis(20))); fast.clone()'))
    for value in range(300):
        front.set(comm, value=value)
    begin = time.monotonic()
    assert front.run("fast.value()").value == "299"
    assert time.monotonic() - begin < 5
