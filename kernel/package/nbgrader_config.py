"""nbgrader's configuration for assignments in Rust: load it from the course's own nbgrader_config.py.

    load_subconfig("/path/to/share/headstart/nbgrader_config.py")
"""

c = get_config()  # noqa: F821: a function of the configuration file's loader

# nbgrader knows no stub for Rust and refuses the language without one. `todo!()` compiles whatever the type, and
# panics when it runs, so that an exercise left out gets no points.
c.ClearSolutions.code_stub = {
    "rust": "// YOUR CODE HERE\ntodo!()",
    "python": "# YOUR CODE HERE\nraise NotImplementedError()",
}
# A cell may load a network's weights or train.
c.ExecutePreprocessor.timeout = 600
