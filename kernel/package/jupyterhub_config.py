"""JupyterHub's configuration for a class: load it from the hub's own jupyterhub_config.py.

    load_subconfig("/opt/headstart/share/headstart/jupyterhub_config.py")

All learners share one read-only prelude: install the wheels into one environment, and unpack the prelude once, as root:

    XDG_CACHE_HOME=/usr/local/share/headstart-cache headstart install --prefix /opt/headstart
    mkdir -p /usr/local/share/headstart
    mv /usr/local/share/headstart-cache/headstart/templates /usr/local/share/headstart/templates

~/.cache/headstart of each learner then contains only the learner's own kernel sessions.
"""

c = get_config()  # noqa: F821: a function of the configuration file's loader

c.Spawner.default_url = "/lab"
c.Spawner.environment = {
    # No standby kernels: each would make restarts fast, but take the memory of one more kernel per learner.
    "HEADSTART_STANDBY": "0",
    # Many learners compute at the same time, so no process may use all cores.
    "RAYON_NUM_THREADS": "2",
}
c.Spawner.args = [
    # Kernels without a running cell end after half an hour, even with a connected client; servers after an hour.
    "--MappingKernelManager.cull_idle_timeout=1800",
    "--MappingKernelManager.cull_interval=60",
    "--MappingKernelManager.cull_connected=True",
    "--ServerApp.shutdown_no_activity_timeout=3600",
    # Progress bars and charts are updated often.
    "--ZMQChannelsWebsocketConnection.iopub_msg_rate_limit=10000",
]
# Timeouts in seconds, longer than the defaults because many learners start at once.
c.Spawner.start_timeout = 120
c.Spawner.http_timeout = 120
