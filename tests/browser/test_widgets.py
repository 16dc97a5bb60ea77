"""Browser tests of widgets and of the variables pane in JupyterLab."""

import nbformat
from test_lab import choose, lab, opened  # noqa: F401 - `lab` is a fixture

KERNELSPEC = {"name": "headstart", "display_name": "Headstart (Rust)", "language": "rust"}
WIDGETS = [
    'let rate = IntSlider::new(3).max(10).description("rate"); rate.on_change(|rate| println!("moved to {rate}"));\nrate.clone()',
    'let press = Button::new("Press me"); press.on_click(|| println!("pressed")); press.clone()',
    'let name = TextInput::new("").description("name"); let list = Dropdown::new(["Adam", "SGD"]); let check = Checkbox::new(false).description("check");\n'
    'let label = Label::new("a label"); let area = Output::new(); area.println("in the area");\n'
    "display(&name); display(&list); display(&check); display(&label); display(&area);",
    'println!("{} {} {}", rate.value(), name.value(), check.value());',
]
VARIABLES = [
    "let images = Tensor::zeros((2, 3, 8, 8), DType::F32, &device())?; let n = 5;\n"
    "let model = sequential![Input::new(4), Dense::new(2)]?;",
    "let later = 6;",
]


def notebook(folder, name, sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNELSPEC}), folder / name)


def run_last(page):
    page.locator(".jp-CodeCell").last.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")


def test_widgets_are_moved_pressed_and_read(lab):  # noqa: F811
    notebook(lab[1], "widgets.ipynb", WIDGETS)
    with opened(lab, "widgets.ipynb") as (page, _, screenshots):
        choose(page, "Run", "Run All Cells")
        cells = page.locator(".jp-CodeCell")
        handle = cells.nth(0).locator(".noUi-handle")
        handle.wait_for(timeout=60_000)
        last = cells.last.locator(".jp-OutputArea-output pre")
        last.get_by_text("3  false").wait_for(timeout=60_000)
        for expected in ("a label", "in the area"):
            page.get_by_text(expected, exact=True).first.wait_for(timeout=30_000)
        handle.focus()
        page.keyboard.press("ArrowRight")
        cells.nth(0).get_by_text("moved to 4").wait_for(timeout=30_000)
        button = cells.nth(1).get_by_role("button", name="Press me")
        button.click()
        cells.nth(1).get_by_text("pressed", exact=True).wait_for(timeout=30_000)
        cells.nth(2).locator("input[type=text]").fill("Ada")
        page.keyboard.press("Tab")
        cells.nth(2).locator("input[type=checkbox]").check()
        page.screenshot(path=screenshots / "widgets.png")
        run_last(page)
        last.get_by_text("4 Ada true").wait_for(timeout=30_000)
        # The page is loaded again: the widgets have their current values.
        page.keyboard.press("Control+s")
        page.wait_for_timeout(1000)
        page.reload()
        page.locator(".jp-Toolbar-kernelName", has_text="Headstart (Rust)").wait_for(timeout=60_000)
        readout = page.locator(".jp-CodeCell").nth(0).locator(".widget-readout")
        readout.get_by_text("4").wait_for(timeout=60_000)


def test_the_variables_pane_shows_names_and_types(lab):  # noqa: F811
    notebook(lab[1], "variables.ipynb", VARIABLES)
    with opened(lab, "variables.ipynb") as (page, _, screenshots):
        choose(page, "Run", "Run All Cells")
        page.locator(".jp-InputPrompt").get_by_text("[2]:", exact=True).first.wait_for(timeout=60_000)
        page.locator(".jp-DebuggerBugButton, [data-jp-item-name='debugger-icon']").first.click()
        pane = page.locator(".jp-DebuggerVariables")
        page.locator("li[data-id='jp-debugger-sidebar']").click()
        pane.wait_for(timeout=30_000)
        # The tree shows a type in place of its value; the values are in the table view, which is a canvas.
        for expected in ("images", "Tensor", "model", "Model", "later", "i32"):
            pane.get_by_text(expected).first.wait_for(timeout=30_000)
        page.screenshot(path=screenshots / "variables.png")
        last = page.locator(".jp-CodeCell").last
        last.locator(".cm-content").click()
        page.keyboard.press("Control+a")
        page.keyboard.type("let newest = 7;")
        page.keyboard.press("Control+Enter")
        pane.get_by_text("newest").first.wait_for(timeout=30_000)
