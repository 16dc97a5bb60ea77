//! An executed notebook as a page that opens in any browser, with nothing to fetch.

use serde_json::Value;

use crate::run::joined;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#222}\
pre{background:#f6f8fa;padding:.8rem;border-radius:6px;overflow-x:auto;font-size:13px;line-height:1.45}\
pre.out{background:none;padding:.2rem .8rem;white-space:pre-wrap}pre.err{background:#fdecea}\
code{font-family:ui-monospace,monospace}table{border-collapse:collapse}td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd}\
svg{max-width:100%;height:auto}";

/// The whole page.
pub fn page(notebook: &Value, title: &str) -> String {
    let cells: String = notebook["cells"].as_array().into_iter().flatten().map(cell).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\n<body>\n{cells}</body></html>\n",
        escape(title)
    )
}

fn cell(cell: &Value) -> String {
    let source = joined(&cell["source"]);
    if cell["cell_type"] == "markdown" {
        let mut html = String::new();
        let mut options = pulldown_cmark::Options::empty();
        options.insert(pulldown_cmark::Options::ENABLE_TABLES);
        pulldown_cmark::html::push_html(&mut html, pulldown_cmark::Parser::new_ext(&source, options));
        return html;
    }
    let outputs: String = cell["outputs"].as_array().into_iter().flatten().map(output).collect();
    format!("<pre><code>{}</code></pre>\n{outputs}", escape(&source))
}

fn output(output: &Value) -> String {
    let data = |mime: &str| output["data"].get(mime).map(joined);
    match output["output_type"].as_str() {
        Some("stream") => format!("<pre class=\"out\">{}</pre>\n", escape(&joined(&output["text"]))),
        Some("error") => {
            let name = output["ename"].as_str().unwrap_or_default();
            let value = output["evalue"].as_str().unwrap_or_default();
            format!("<pre class=\"err\">{}: {}</pre>\n", escape(name), escape(value))
        }
        // What cells made is shown as a notebook shows it.
        _ => match data("image/svg+xml").or_else(|| data("text/html")) {
            Some(rich) => format!("<div>{rich}</div>\n"),
            None => format!("<pre class=\"out\">{}</pre>\n", escape(&data("text/plain").unwrap_or_default())),
        },
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
