"""The compiled prelude: its sources, and failures while it is created."""

import fcntl
import os
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import nbformat
import pytest
import zstandard
from conftest import CACHE, HEADSTART, Kernel
from nbclient import NotebookClient


@pytest.fixture
def empty_cache(tmp_path):
    """A cache without a template. cargo's target folder stays, so that nothing is recompiled."""
    return os.environ | {"XDG_CACHE_HOME": str(tmp_path), "JUPYTER_DATA_DIR": str(tmp_path / "jupyter")}


def parts(cache):
    return [part for part in (cache / "headstart" / "parts").glob("*") if part.is_dir()]


def whole(cache):
    return list((cache / "headstart" / "templates").glob("*/inventory"))


def test_a_killed_build_does_not_block_the_next_one(empty_cache, tmp_path):
    building = subprocess.Popen([HEADSTART, "install"], env=empty_cache, start_new_session=True)
    while not parts(tmp_path):
        assert building.poll() is None
        time.sleep(0.01)
    os.killpg(building.pid, signal.SIGKILL)
    building.wait()
    assert parts(tmp_path) and not whole(tmp_path)
    kernel = Kernel(env=empty_cache)
    try:
        cell = kernel.run("Tensor::zeros(2, DType::F32, &device())?.dims()")
        assert cell.value == "[2]"
        assert whole(tmp_path) and not parts(tmp_path)
    finally:
        kernel.stop()


def test_a_waiting_cell_shows_that_the_prelude_is_being_compiled(empty_cache):
    kernel = Kernel(env=empty_cache)
    try:
        cell = kernel.run("1 + 1")
        assert cell.value == "2"
        assert "compiling the prelude" in cell.stdout and cell.stderr == ""
        assert kernel.run("2").stdout == ""
    finally:
        kernel.stop()


@pytest.fixture
def waiting(empty_cache, template, tmp_path):
    """The environment of a kernel that waits for another kernel's prelude, and a function that ends the wait."""
    templates = tmp_path / "headstart" / "templates"
    templates.mkdir(parents=True)
    with open(templates / f"{template.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def release():
            shutil.copytree(template, templates / template.name, copy_function=os.link)
            fcntl.flock(lock, fcntl.LOCK_UN)

        yield empty_cache, release


def test_a_notice_is_shown_on_standard_output_and_removed_when_the_prelude_has_loaded(waiting):
    environment, release = waiting
    kernel = Kernel(env=environment)
    try:
        request = kernel.send('println!("hello"); 1 + 1')
        messages = []
        while not messages or messages[-1]["msg_type"] != "stream":
            messages.append(kernel.client.get_iopub_msg(timeout=60))
        assert messages[-1]["content"] == {"name": "stdout", "text": "another kernel is building the prelude: waiting for it\n"}
        release()
        cell = kernel.result(request)
        kinds = [message["msg_type"] for message in cell.messages]
        assert kinds == ["clear_output", "stream", "execute_result", "status"]
        assert cell.messages[0]["content"] == {"wait": False}
        assert (cell.stdout, cell.value) == ("hello\n", "2")
    finally:
        kernel.stop()


def test_completion_and_inspection_do_not_wait_for_the_prelude(waiting):
    environment, release = waiting
    kernel = Kernel(env=environment, waits=False)
    try:
        kernel.client.kernel_info(reply=True, timeout=60)
        completed = kernel.client.complete("ve", 2, reply=True, timeout=60)["content"]
        assert (completed["status"], completed["matches"]) == ("ok", [])
        assert not kernel.client.inspect("vec", 2, reply=True, timeout=60)["content"]["found"]
        release()
        assert kernel.ok("1 + 1") == "2"
        assert kernel.client.complete("ve", 2, reply=True, timeout=60)["content"]["matches"]
    finally:
        kernel.stop()


def test_an_executed_notebook_contains_no_notice(waiting):
    environment, release = waiting
    seen = []

    class Client(NotebookClient):
        def process_message(self, message, *rest):
            if message["msg_type"] == "stream":
                seen.append(message["content"]["text"])
                release()
            return super().process_message(message, *rest)

    source = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in ("let a = 1;", "a + 1")])
    Client(source, kernel_name="headstart", timeout=120).execute(env=environment)
    assert len(seen) == 1 and "another kernel" in seen[0]
    first, second = source.cells
    assert first.outputs == [] and second.outputs[0].data["text/plain"] == "2"


def test_the_timeout_of_a_cell_begins_when_the_prelude_has_loaded(waiting, tmp_path):
    environment, release = waiting
    cells = [nbformat.v4.new_code_cell(code) for code in ("1", "2")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "a.ipynb")
    command = [HEADSTART, "run", tmp_path / "a.ipynb", "--allow-errors", "--timeout", "10"]
    running = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    time.sleep(11)
    release()
    said = running.communicate(timeout=120)[1]
    assert running.returncode == 0 and "TimeoutError" not in said, said
    values = [cell.outputs[0].data["text/plain"] for cell in nbformat.read(tmp_path / "a.ipynb", 4).cells]
    assert values == ["1", "2"]


def test_a_full_disk_is_reported_and_leaves_no_files(empty_cache, tmp_path):
    def full():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))

    done = subprocess.run(
        [HEADSTART, "install"], env=empty_cache, capture_output=True, text=True, preexec_fn=full
    )
    assert done.returncode == 1
    assert "File too large" in done.stderr and str(tmp_path) in done.stderr, done.stderr
    assert not whole(tmp_path) and not parts(tmp_path)


def try_to_run(program, folder, environment):
    """Run a notebook whose cell needs the prelude."""
    cell = nbformat.v4.new_code_cell('println!("{:?}", Tensor::zeros(2, DType::F32, &device())?.dims());')
    notebook = folder / "a.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), notebook)
    return subprocess.run([program, "run", notebook], env=environment, capture_output=True, text=True)


def run(program, folder, environment):
    """Run such a notebook successfully, and return the command's standard error."""
    done = try_to_run(program, folder, environment)
    assert done.returncode == 0 and "[2]" in done.stdout, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def template():
    """The template that the tests' kernels use."""
    kept = {path.parent for path in CACHE.glob("templates/*/inventory")}
    [name] = {line.split()[-1] for line in doctor().splitlines() if line.startswith("ok    prelude")}
    [found] = [path for path in kept if str(path) == name]
    return found


def doctor(program=HEADSTART, environment=None):
    return subprocess.run([program, "doctor"], env=environment, capture_output=True, text=True).stdout


@pytest.fixture
def installation(tmp_path):
    """The program in its own installation prefix, outside the checkout and without a template."""
    for folder in ("bin", "share/headstart", "cache"):
        (tmp_path / "prefix" / folder).mkdir(parents=True)
    program = tmp_path / "prefix" / "bin" / "headstart"
    shutil.copy2(HEADSTART, program)
    return program


@pytest.fixture(scope="module")
def archive(template, tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    packed = subprocess.run([HEADSTART, "pack", folder], check=True, capture_output=True, text=True).stdout.strip()
    with open(packed, "rb") as source, open(packed + ".zst", "wb") as target:
        zstandard.ZstdCompressor(level=1).copy_stream(source, target)
    os.remove(packed)
    return folder / f"{template.name}.tar.zst"


def test_an_archive_that_came_with_the_program_is_unpacked(installation, archive, empty_cache, tmp_path):
    os.link(archive, tmp_path / "prefix" / "share" / "headstart" / archive.name)
    offline = empty_cache | {"CARGO_NET_OFFLINE": "true", "CARGO_HOME": str(tmp_path / "cargo")}
    assert "the first start unpacks it" in doctor(installation, offline)
    said = run(installation, tmp_path, offline)
    assert "unpacking the prelude" in said and "compiling the prelude" not in said
    assert not (tmp_path / "cargo" / "registry").exists()
    assert "prelude" not in run(installation, tmp_path, offline), "it is there now"


def test_a_damaged_archive_is_named_and_not_used(installation, archive, empty_cache, tmp_path):
    damaged = tmp_path / "prefix" / "share" / "headstart" / archive.name
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    said = run(installation, tmp_path, empty_cache)
    assert str(damaged) in said and "the prelude is compiled instead" in said


def test_a_template_of_the_system_is_shared_and_not_written_to(installation, template, empty_cache, tmp_path):
    shared = tmp_path / "prefix" / "share" / "headstart" / "templates" / template.name
    shutil.copytree(template, shared)
    before = sorted(shared.rglob("*"))
    assert str(shared) in doctor(installation, empty_cache)
    run(installation, tmp_path, empty_cache)
    assert sorted(shared.rglob("*")) == before
    assert not whole(tmp_path) and list(tmp_path.glob(f"headstart/state/{template.name}/session"))


def test_a_damaged_template_is_replaced(empty_cache, tmp_path):
    run(HEADSTART, tmp_path, empty_cache)
    [inventory] = whole(tmp_path)
    library = next(inventory.parent.glob("deps/libheadstart_prelude.*"))
    os.truncate(library, library.stat().st_size // 2)
    said = run(HEADSTART, tmp_path, empty_cache)
    assert f"the prelude was damaged ({library} is damaged) and is rebuilt" in said


def test_two_processes_create_a_template_only_once(empty_cache, tmp_path):
    def start():
        return subprocess.Popen([HEADSTART, "install"], env=empty_cache, stderr=subprocess.PIPE, text=True)

    running = [start() for _ in range(2)]
    said = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert sum("compiling the prelude" in text for text in said) == 1, said
    assert sum("another kernel is building the prelude" in text for text in said) == 1, said


def test_a_library_of_the_same_name_elsewhere_is_not_loaded(tmp_path):
    (tmp_path / "libheadstart_prelude.so").write_text("another version's")
    run(HEADSTART, tmp_path, os.environ | {"LD_LIBRARY_PATH": str(tmp_path)})


RUSTUP = """#!/bin/bash
[ "$1" = toolchain ] || exit 1
for component in cargo rustc rust-std; do echo "info: downloading component '$component'" >&2; done
{finish}
"""


def without_rust(folder, finish):
    """A PATH with a rustup that has no toolchain yet, and the system's programs."""
    folder.mkdir()
    (folder / "rustup").write_text(RUSTUP.format(finish=finish))
    (folder / "rustup").chmod(0o755)
    return os.environ | {"PATH": f"{folder}:/usr/bin:/bin"}


def test_a_missing_compiler_is_installed_by_rustup_with_progress(installation, archive, empty_cache, tmp_path):
    os.link(archive, tmp_path / "prefix" / "share" / "headstart" / archive.name)
    programs = Path(subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True).stdout.strip()) / "bin"
    environment = without_rust(tmp_path / "path", f'ln -s {programs}/* "$(dirname "$0")"')
    said = run(installation, tmp_path, environment | {"XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert "installing Rust 1." in said and "downloading component" in said, said
    assert "compiling the prelude" not in said


def test_the_error_of_rustup_is_quoted(installation, archive, empty_cache, tmp_path):
    os.link(archive, tmp_path / "prefix" / "share" / "headstart" / archive.name)
    environment = without_rust(tmp_path / "path", "echo 'error: no network' >&2; exit 1")
    done = try_to_run(installation, tmp_path, environment | {"XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert done.returncode == 1 and "error: no network" in done.stderr, done.stderr
    assert "hint: rustup toolchain install 1." in done.stderr


def test_a_missing_compiler_is_reported_with_the_command_that_installs_it(tmp_path):
    said = try_to_run(HEADSTART, tmp_path, os.environ | {"PATH": str(tmp_path)})
    assert said.returncode == 1
    assert "Rust cannot be used" in said.stderr and "--default-toolchain 1." in said.stderr, said.stderr
