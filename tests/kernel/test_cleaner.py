"""The image cleaner: choices are written at once, retained, and applied."""

import csv
import json
import time

import pytest
from conftest import Kernel
from test_widgets import Front


def rows(path):
    with open(path, newline="") as file:
        return {row["filename"]: (row["edit"], row["class"]) for row in csv.DictReader(file)}


def wait_for(condition, timeout=20):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "the edit was not written"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def kernel():
    kernel = Kernel()
    yield kernel
    kernel.stop()


def test_choices_are_written_at_once_and_applied(kernel, tmp_path):
    front = Front(kernel)
    images, table = json.dumps(str(tmp_path / "images")), tmp_path / "edits.csv"
    path = json.dumps(str(table))
    front.run(f"draw_demo_images({images}, 6, 64, 1)?; let images = Images::from_directory({images}, (64, 64))?;")
    front.run("let model = sequential![Input::new((3, 64, 64)), Flatten, Dense::new(2).activation(Softmax)]?;")
    front.run("let predictions = model.predict(&images.x)?;")
    cell = front.run(f"images.cleaner(&predictions, 5, {path})?")
    assert cell.status == "ok", cell.traceback
    box = front.state[front.shown(cell)]
    assert box["_model_name"] == "VBoxModel" and len(box["children"]) == 1 + 2, "a line of text, and rows of four and one"
    lists = [comm for comm, state in front.state.items() if state.get("_model_name") == "DropdownModel"]
    views = [state for state in front.state.values() if state.get("_model_name") == "ImageModel"]
    assert (len(lists), len(views)) == (5, 5)
    assert front.state[lists[0]]["_options_labels"] == ["keep", "drop", "is cats", "is dogs"]
    worst = kernel.ok("images.top_losses(&predictions, 5)?").split(": ")[1]
    front.set(lists[0], index=1)
    wait_for(lambda: len(rows(table)) == 1)
    [(dropped, edit)] = rows(table).items()
    assert edit == ("drop", "") and kernel.ok(f"images.paths[{worst}].clone()") == json.dumps(dropped)
    # While a cell runs, and more changes than fit into the queue of callbacks.
    request = kernel.send('println!("begun"); for _ in 0..400 { check_interrupt()?; std::thread::sleep(std::time::Duration::from_millis(10)); }')
    front.text("begun")
    for turn in range(150):
        front.set(lists[1 + turn % 4], index=3 - turn % 2)
    front.set(lists[4], index=0)
    wait_for(lambda: len(rows(table)) == 4 and [edit for edit, _ in rows(table).values()].count("relabel") == 3)
    cell = kernel.result(request)
    front.see(cell.messages)
    assert cell.status == "ok", cell.traceback
    assert kernel.ok(f"images.with_edits({path})?.len()") == "11"
    # A new cleaner shows the same choices, also in another kernel.
    other = Kernel()
    again = Front(other)
    again.run(f"let images = Images::from_directory({images}, (64, 64))?;")
    again.run("let model = sequential![Input::new((3, 64, 64)), Flatten, Dense::new(2).activation(Softmax)]?;")
    shown = again.run(f"images.cleaner(&model.predict(&images.x)?, 12, {path})?")
    assert shown.status == "ok", shown.traceback
    indices = [state["index"] for state in again.state.values() if state.get("_model_name") == "DropdownModel"]
    assert sorted(indices)[:8] == [0] * 8 and sorted(indices)[8] == 1 and len(indices) == 12
    other.stop()


def test_an_edit_that_cannot_be_written_is_reported_and_written_later(kernel, tmp_path):
    front = Front(kernel)
    folder = tmp_path / "notes"
    folder.mkdir()
    table = folder / "edits.csv"
    images = json.dumps(str(tmp_path / "images"))
    front.run(f"draw_demo_images({images}, 3, 64, 2)?; let few = Images::from_directory({images}, (64, 64))?;")
    front.run("let small = sequential![Input::new((3, 64, 64)), Flatten, Dense::new(2).activation(Softmax)]?;")
    before = set(front.state)
    cell = front.run(f"few.cleaner(&small.predict(&few.x)?, 2, {json.dumps(str(table))})?")
    assert cell.status == "ok", cell.traceback
    lists = [c for c, state in front.state.items() if c not in before and state.get("_model_name") == "DropdownModel"]
    table.unlink()
    table.mkdir()
    front.set(lists[0], index=1)
    front.until(lambda m: m["msg_type"] == "comm_msg" and "NOT SAVED" in json.dumps(m["content"]["data"]))
    table.rmdir()
    front.set(lists[1], index=1)
    wait_for(lambda: table.is_file() and len(rows(table)) == 2)
