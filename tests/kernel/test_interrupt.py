"""The Stop button: trained weights are kept, code that does not react is killed, and the message says which."""

import time

from conftest import Kernel

BUILD = """
let mut model = sequential![Input::new(64), Dense::new(512).activation(Relu), Dense::new(1).activation(Sigmoid)]?;
model.compile(Adam::default(), BinaryCrossentropy, [Accuracy]);
let x = random_uniform((4096, 64), 0.0, 1.0)?;
let y = random_uniform(4096, 0.0, 1.0)?.ge(0.5)?.to_dtype(DType::F32)?;
"""


def stop_after_first_output(kernel, code, kind="stream"):
    """Send a cell and press Stop at its first output. Returns the cell and the seconds that Stop took."""
    request = kernel.send(code)
    messages = []
    while not messages or messages[-1]["msg_type"] != kind:
        message = kernel.client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") == request:
            messages.append(message)
    time.sleep(0.5)
    begin = time.monotonic()
    kernel.manager.interrupt_kernel()
    cell = kernel.result(request, timeout=30)
    cell.messages = messages + cell.messages
    return cell, time.monotonic() - begin


def test_fit_stops_and_keeps_model_and_history(kernel):
    kernel.ok(BUILD)
    cell, seconds = stop_after_first_output(kernel, "let history = model.fit((&x, &y), Fit::epochs(100_000))?;")
    assert seconds < 1.5
    assert cell.reply["ename"] == "Interrupted" and "all variables keep their values" in cell.reply["evalue"]
    assert "stopped at epoch" in cell.stdout
    epochs = int(kernel.ok("history.epochs()"))
    stopped = kernel.ok("history.stopped")
    assert epochs >= 1 and stopped.startswith(f"Some(({epochs + 1}, "), stopped
    assert kernel.ok("model.predict(&x)?.len()") == "4096"
    more = kernel.run("let more = model.fit((&x, &y), Fit::epochs(1))?;")
    assert more.status == "ok", "the next cell is not stopped by the last one's button"
    assert kernel.ok("history.epochs()") == str(epochs)


def test_statements_after_a_stopped_fit_do_not_run(kernel):
    kernel.ok(BUILD)
    code = """
    let first = model.fit((&x, &y), Fit::epochs(100_000))?;
    let second = model.fit((&x, &y), Fit::epochs(100_000))?;
    println!("went on");
    """
    cell, seconds = stop_after_first_output(kernel, code)
    assert (cell.status, cell.reply["ename"]) == ("error", "Interrupted")
    assert seconds < 1.5 and "went on" not in cell.stdout


def test_a_user_loop_stops_at_check_interrupt(kernel):
    kernel.ok("let mut rounds = 0u64;")
    code = 'println!("begun"); loop { check_interrupt()?; rounds += 1; std::thread::sleep(std::time::Duration::from_millis(10)); }'
    cell, seconds = stop_after_first_output(kernel, code)
    assert cell.reply["ename"] == "Interrupted" and seconds < 1
    assert int(kernel.ok("rounds")) > 10


def test_prediction_and_evaluation_stop(kernel):
    kernel.ok(BUILD)
    for call in ("predict(&x)", "evaluate(&x, &y)"):
        code = f'println!("begun"); for _ in 0..100_000 {{ model.{call}?; }}'
        cell, seconds = stop_after_first_output(kernel, code)
        assert cell.reply["ename"] == "Interrupted" and seconds < 1


def test_a_cell_that_is_being_compiled_stops(kernel):
    kernel.ok("let kept = 1;")
    big = "\n".join(f"fn f{n}(v: &[u64]) -> Vec<String> {{ v.iter().map(|x| format!(\"{{x}} {n}\")).collect() }}" for n in range(3000))
    request = kernel.send(big + "\nf0(&[1]).len()")
    time.sleep(2)
    begin = time.monotonic()
    kernel.manager.interrupt_kernel()
    cell = kernel.result(request, timeout=60)
    assert (cell.status, cell.reply["ename"]) == ("error", "Interrupted")
    assert time.monotonic() - begin < 4
    assert kernel.ok("kept") == "1"


def test_a_second_stop_kills_code_that_ignores_the_first():
    kernel = Kernel()
    try:
        kernel.ok("let (lost, gone) = (1, 2);")
        request = kernel.send('println!("begun"); loop { std::hint::spin_loop(); }')
        while kernel.client.get_iopub_msg(timeout=60)["msg_type"] != "stream":
            pass
        kernel.manager.interrupt_kernel()
        time.sleep(0.5)
        kernel.manager.interrupt_kernel()
        begin = time.monotonic()
        cell = kernel.result(request, timeout=30)
        assert time.monotonic() - begin < 2
        assert cell.reply["ename"] == "Interrupted" and "gone, lost" in cell.traceback
        assert kernel.ok("1 + 1") == "2"
    finally:
        kernel.stop()


def test_weights_of_a_training_are_recovered_after_a_crash():
    kernel = Kernel()
    try:
        kernel.ok(BUILD)
        nothing = kernel.run("model.recover()?")
        assert nothing.status == "error" and "no checkpoint of `sequential`" in nothing.reply["evalue"]
        kernel.ok("let history = model.fit((&x, &y), Fit::epochs(150))?;")  # some seconds
        predict = "model.predict(&Tensor::ones((1, 64), DType::F32, &device())?)?[0][0]"
        last = kernel.ok(predict)
        cell = kernel.run("std::process::abort();")
        assert cell.reply["ename"] == "ProcessEnded"
        assert "Lost with it: history, model, x, y" in cell.traceback
        assert "checkpoints of sequential exist" in cell.traceback and "recover()" in cell.traceback
        kernel.ok("set_random_seed(1);" + BUILD)
        assert kernel.ok(predict) != last
        other = kernel.run("sequential![Input::new(3), Dense::new(1)]?.recover()?")
        assert other.status == "error" and "checkpoints exist for `sequential`" in other.reply["evalue"]
        assert kernel.ok("model.recover()?") == "the weights are those of epoch 150, batch 128"
        assert kernel.ok(predict) == last
    finally:
        kernel.stop()
