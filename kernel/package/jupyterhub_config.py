"""JupyterHub's configuration for a class: load it from the hub's own jupyterhub_config.py.

    load_subconfig("/opt/headstart/share/headstart/jupyterhub_config.py")

The hub's own settings stay, also those of `c.Spawner.environment` and `c.Spawner.args`. To change one of these after this
line, write `c.Spawner.environment.update({...})`.

All learners share one Rust and one read-only prelude. Install a C compiler, and Rust in the version that `headstart
doctor` names, as root with the umask 022:

    export RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs -o rustup-init.sh
    sh rustup-init.sh -y --no-modify-path --profile minimal --default-toolchain VERSION

Install the wheels into one environment, and unpack the prelude once, also as root:

    export PATH=/usr/local/cargo/bin:$PATH
    XDG_CACHE_HOME=/usr/local/share/headstart-cache headstart install --prefix /opt/headstart
    mkdir -p /usr/local/share/headstart
    mv /usr/local/share/headstart-cache/headstart/templates /usr/local/share/headstart/templates

~/.cache/headstart of each learner then contains only the learner's own kernel sessions, and ~/.cargo only the crates
that the learner adds.
"""

import os

c = get_config()  # noqa: F821: a function of the configuration file's loader

c.Spawner.default_url = "/lab"
c.Spawner.environment.update(
    {
        # The Rust that all learners share. Without these lines, each learner's kernel would look for Rust in the
        # learner's home folder.
        "RUSTUP_HOME": "/usr/local/rustup",
        "PATH": f"/usr/local/cargo/bin:{os.environ.get('PATH', '/usr/local/bin:/usr/bin:/bin')}",
        # No standby kernels: each would make restarts fast, but take the memory of one more kernel per learner.
        "HEADSTART_STANDBY": "0",
        # Many learners compute at the same time, so no process may use all cores.
        "RAYON_NUM_THREADS": "2",
    }
)
c.Spawner.args.extend(
    [
        # Kernels without a running cell end after half an hour, even with a connected client; servers after an hour.
        "--MappingKernelManager.cull_idle_timeout=1800",
        "--MappingKernelManager.cull_interval=60",
        "--MappingKernelManager.cull_connected=True",
        "--ServerApp.shutdown_no_activity_timeout=3600",
        # Progress bars and charts are updated often.
        "--ZMQChannelsWebsocketConnection.iopub_msg_rate_limit=10000",
    ]
)
# Timeouts in seconds, longer than the defaults because many learners start at once.
c.Spawner.start_timeout = 120
c.Spawner.http_timeout = 120
