"""Cells that await, with tokio as evcxr adds it and with all of its features."""

import time

from conftest import Kernel


def test_cells_await_stop_and_keep_their_variables(kernel):
    kernel.ok("let before = 1;")
    kernel.ok("struct Mine(u8);\nlet mine = Mine(1);")
    first = kernel.run("std::future::ready(2).await", timeout=300)
    assert first.value == "2" and "`.await` makes evcxr" in first.stderr and "`mine` will be lost" in first.stderr
    kernel.ok("let after = std::future::ready(3).await + before;")
    assert kernel.ok("after + 1") == "5", "a cell that does not await"
    kernel.ok("let task = tokio::spawn(async { 5 });")
    assert kernel.ok("task.await?") == "5", "a task of an earlier cell"
    failed = kernel.run('std::future::ready(1).await;\nlet x: u8 = "x".parse()?;')
    assert failed.reply["ename"] == "Error" and "invalid digit" in failed.reply["evalue"]
    assert "2 │ let x" in failed.traceback
    panicked = kernel.run('std::future::ready(1).await;\npanic!("boo");')
    assert panicked.reply["ename"] == "Panic" and "2 │ panic!" in panicked.traceback
    request = kernel.send("println!(\"begun\"); std::future::pending::<()>().await;")
    while kernel.client.get_iopub_msg(timeout=60)["msg_type"] != "stream":
        pass
    begin = time.monotonic()
    kernel.manager.interrupt_kernel()
    assert kernel.result(request, timeout=20).reply["ename"] == "Interrupted"
    assert time.monotonic() - begin < 3 and kernel.ok("before") == "1"
    kernel.ok("let mut v = vec![1, 2, 3];")
    assert kernel.run("let mut v = vec![4]; let z = v[7];").status == "error"
    assert kernel.ok("v") == "[1, 2, 3]", "a failed cell gives the old value back"
    missing = kernel.run("tokio::time::sleep(std::time::Duration::from_millis(1)).await;")
    assert missing.status == "error" and 'features = ["full"]' in missing.traceback


def test_a_task_wakes_a_later_cell_with_all_features():
    # Each cell contains a copy of tokio. A task that runs in one copy wakes a cell that runs in another.
    kernel = Kernel()
    try:
        added = kernel.run(':dep tokio = { version = "1", features = ["full"] }', timeout=600)
        assert added.status == "ok", added.traceback
        outside = kernel.run("tokio::spawn(async { 1 });")
        assert outside.reply["ename"] == "Panic" and "hint: run `tokio::task::yield_now().await;`" in outside.traceback
        kernel.ok("tokio::task::yield_now().await;")
        kernel.ok("let (send, mut receive) = tokio::sync::mpsc::channel::<u32>(1);")
        kernel.ok("let task = tokio::spawn(async move { for n in 0..50 { tokio::task::yield_now().await; send.send(n).await.ok(); } });")
        for turn in range(5):
            value = kernel.run("receive.recv().await", timeout=60).value
            assert value == f"Some({turn})"
        assert kernel.run("tokio::spawn(async { 6 }).await?", timeout=60).value == "6"
        assert kernel.run("tokio::time::sleep(std::time::Duration::from_millis(10)).await; 7", timeout=60).value == "7"
    finally:
        kernel.stop()
