"""papermill parameters as Rust code.

papermill 2.7 has entry points for engines but none for translators. It imports this module to load the engine
"headstart", which is papermill's default engine; the import registers the translator.
"""

import json
import math
import re

from papermill.engines import NBClientEngine
from papermill.models import Parameter
from papermill.translators import Translator, papermill_translators

__all__ = ["Engine", "RustTranslator"]

ASSIGNMENT = re.compile(
    r"^\s*let\s+(?:mut\s+)?(?P<name>\w+)\s*(?::\s*(?P<type>[^=]+?))?\s*=\s*(?P<value>.+?);\s*(?://\s*(?P<help>.*))?$"
)


def rust_escape(match):
    """Convert a JSON escape sequence to Rust's."""
    if match[2]:
        return f"\\u{{{match[2]}}}"
    return {"b": "\\u{8}", "f": "\\u{c}", "/": "/"}.get(match[1], match[0])


class Engine(NBClientEngine):
    """papermill's default engine."""


class RustTranslator(Translator):
    """Values as Rust expressions. The kernel converts each to the type of the variable that it replaces."""

    @classmethod
    def translate_none(cls, val):
        return "None"

    @classmethod
    def translate_escaped_str(cls, str_val):
        text = json.dumps(str(str_val), ensure_ascii=False)
        return re.sub(r"\\(u([0-9a-f]{4})|.)", rust_escape, text)

    @classmethod
    def translate_float(cls, val):
        if math.isfinite(val):
            return repr(val)
        return "f64::NAN" if math.isnan(val) else f"f64::{'NEG_' if val < 0 else ''}INFINITY"

    @classmethod
    def translate_list(cls, val):
        return f"vec![{', '.join(cls.translate(item) for item in val)}]"

    @classmethod
    def translate_dict(cls, val):
        pairs = (f"({cls.translate_str(str(key))}, {cls.translate(item)})" for key, item in val.items())
        return f"std::collections::HashMap::from([{', '.join(pairs)}])"

    @classmethod
    def codify(cls, parameters, comment="Parameters"):
        # The kernel knows an injected cell by this line. Its users write papermill's own above their cells.
        return super().codify(parameters, "Injected parameters")

    @classmethod
    def comment(cls, cmt_str):
        return f"// {cmt_str}".strip()

    @classmethod
    def assign(cls, name, str_val):
        return f"let {name} = {str_val};"

    @classmethod
    def inspect(cls, parameters_cell):
        found = (ASSIGNMENT.match(line) for line in parameters_cell["source"].splitlines())
        return [
            Parameter(match["name"], match["type"] or "None", match["value"], match["help"] or "")
            for match in found
            if match
        ]


papermill_translators.register("rust", RustTranslator)
