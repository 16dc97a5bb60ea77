"""nbgrader's configuration for assignments in Rust: load it from the course's own nbgrader_config.py.

    load_subconfig("/path/to/share/headstart/nbgrader_config.py")
"""

import os

from nbgrader.preprocessors import ClearSolutions

c = get_config()  # noqa: F821: a function of the configuration file's loader

# nbgrader has no code stub for Rust, and rejects a language without one. `todo!()` compiles for every type
# and panics when it runs, so that an unsolved exercise gets no points. The other languages keep their stubs.
c.ClearSolutions.code_stub = ClearSolutions().code_stub | {"rust": "// YOUR CODE HERE\ntodo!()"}
# In seconds: a cell may load a network's weights or train.
c.ExecutePreprocessor.timeout = 600
# In seconds: how long a stopped cell may take to end. Code that ignores an interrupt, such as `loop {}`, is killed after
# 5 s. With nbgrader's 4 s, a submission with such a cell is not graded at all.
c.ExecutePreprocessor.iopub_timeout = 60
# nbgrader gives no points for a cell with text on standard error. So the notes of kernel and library, which are no
# errors, go to standard output. The kernels inherit this variable.
os.environ["HEADSTART_NOTES"] = "stdout"
