"""nbgrader's configuration for assignments in Rust: load it from the course's own nbgrader_config.py.

    load_subconfig("/path/to/share/headstart/nbgrader_config.py")
"""

c = get_config()  # noqa: F821: a function of the configuration file's loader

# nbgrader has no code stub for Rust, and rejects a language without one. `todo!()` compiles for every type
# and panics when it runs, so that an unsolved exercise gets no points.
c.ClearSolutions.code_stub = {
    "rust": "// YOUR CODE HERE\ntodo!()",
    "python": "# YOUR CODE HERE\nraise NotImplementedError()",
}
# In seconds: a cell may load a network's weights or train.
c.ExecutePreprocessor.timeout = 600
