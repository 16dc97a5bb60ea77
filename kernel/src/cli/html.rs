//! Executed notebooks as self-contained HTML pages.

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag};
use serde_json::Value;

use crate::cli::highlight::{self, escape, highlight};
use crate::cli::notebook::joined;
use crate::engine::errors::without_colours;

const STYLE: &str = "\
:root{color-scheme:light dark;--text:#222;--page:#fff;--code:#f6f8fa;--line:#ddd;--error:#fdecea}\
@media(prefers-color-scheme:dark){:root{--text:#e6e6e6;--page:#161b22;--code:#0d1117;--line:#30363d;--error:#3d1d1d}}\
body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:var(--text);background:var(--page)}\
pre{background:var(--code);padding:.8rem;border-radius:6px;overflow-x:auto;font-size:13px;line-height:1.45}\
pre.out{background:none;padding:.2rem .8rem;white-space:pre-wrap}pre.err{background:var(--error)}\
code{font-family:ui-monospace,monospace}table{border-collapse:collapse;display:block;overflow-x:auto}td,th{padding:.2rem .8rem;border-bottom:1px solid var(--line)}\
svg,img{max-width:100%;height:auto}\
nav{display:flex;justify-content:space-between;gap:1rem;margin:1rem 0;font-size:14px}\
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(16rem,1fr));gap:1.5rem}\
.card{border:1px solid var(--line);border-radius:6px;padding:1rem;color:inherit;text-decoration:none}.card h2{margin:0;font-size:1.1rem}\
.card:hover,.card:focus{border-color:#0072b2}.card svg{max-height:10rem}";
/// Image formats whose content is base64.
const BITMAPS: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];
/// File name of the page that links to all others.
pub const INDEX: &str = "index.html";

/// File name of a notebook's page, and the notebook.
pub type Page = (String, Value);

/// Converts a notebook to a page.
pub fn page(notebook: &Value, title: &str) -> String {
    document(title, &cells(notebook).map(cell).collect::<String>())
}

/// Converts one of several notebooks to a page with links to the previous and the next one.
pub fn linked_page(pages: &[Page], number: usize) -> String {
    let (file, notebook) = &pages[number];
    let link = |page: Option<&Page>, before: &str, after: &str| {
        page.map_or("<span></span>".into(), |(file, notebook)| {
            format!("<a href=\"{}\">{before}{}{after}</a>", escape(file), escape(heading(file, notebook)))
        })
    };
    let nav = format!(
        "<nav>{}<a href=\"{INDEX}\">All pages</a>{}</nav>\n",
        link(number.checked_sub(1).and_then(|number| pages.get(number)), "← ", ""),
        link(pages.get(number + 1), "", " →")
    );
    let body: String = cells(notebook).map(cell).collect();
    document(heading(file, notebook), &format!("{nav}{body}{nav}"))
}

/// Sorts pages by the number that begins their file names, so that lesson 10 follows lesson 9. Pages without a number
/// come last.
pub fn in_reading_order(mut pages: Vec<Page>) -> Vec<Page> {
    pages.sort_by_key(|(file, _)| {
        file.split('_').next().and_then(|number| number.parse().ok()).unwrap_or(u32::MAX)
    });
    pages
}

/// Index page that links to the pages of several notebooks.
pub fn gallery(pages: &[Page]) -> String {
    let cards: String = pages.iter().map(|(file, notebook)| card(file, notebook)).collect();
    document("Headstart", &format!("<h1>Headstart</h1>\n<div class=\"cards\">\n{cards}</div>\n"))
}

/// A notebook's first heading. Default: the file name of its page.
fn heading<'a>(file: &'a str, notebook: &'a Value) -> &'a str {
    let prose = cells(notebook).find(|cell| cell["cell_type"] == "markdown");
    let first = prose.and_then(|cell| match &cell["source"] {
        Value::Array(lines) => lines.first()?.as_str(),
        source => source.as_str()?.lines().next(),
    });
    first.and_then(|line| line.strip_prefix("# ")).map_or(file, str::trim)
}

/// An index entry: the heading, the first paragraph and the first image.
fn card(file: &str, notebook: &Value) -> String {
    let prose = cells(notebook).find(|cell| cell["cell_type"] == "markdown");
    let prose = prose.map(|cell| joined(&cell["source"])).unwrap_or_default();
    let text = match prose.split_once('\n') {
        Some((first, rest)) if first.starts_with("# ") => rest.trim(),
        _ => prose.trim(),
    };
    let outputs = cells(notebook).filter_map(|cell| cell["outputs"].as_array()).flatten();
    let image = outputs.filter_map(|output| output["data"].get("image/svg+xml")).map(joined).next();
    format!(
        "<a class=\"card\" href=\"{}\"><h2>{}</h2>\n{}{}</a>\n",
        escape(file),
        escape(heading(file, notebook)),
        without_links(text.split("\n\n").next().unwrap_or_default()),
        image.unwrap_or_default()
    )
}

fn cells(notebook: &Value) -> impl Iterator<Item = &Value> {
    notebook["cells"].as_array().into_iter().flatten()
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}{}</style></head>\n<body>\n{body}</body></html>\n",
        escape(title),
        highlight::STYLE
    )
}

fn cell(cell: &Value) -> String {
    let source = joined(&cell["source"]);
    match cell["cell_type"].as_str() {
        Some("markdown") => return html(parsed(&source).map(to_page)),
        Some("raw") => return format!("<pre class=\"out\">{}</pre>\n", escape(&source)),
        _ => {}
    }
    let outputs: String = cell["outputs"].as_array().into_iter().flatten().map(output).collect();
    format!("<pre><code>{}</code></pre>\n{outputs}", highlight(&source))
}

fn parsed(markdown: &str) -> Parser<'_> {
    Parser::new_ext(markdown, Options::ENABLE_TABLES)
}

fn html<'a>(events: impl Iterator<Item = Event<'a>>) -> String {
    let mut html = String::new();
    pulldown_cmark::html::push_html(&mut html, events);
    html
}

/// Replaces links between notebooks by links between their pages.
fn to_page(event: Event<'_>) -> Event<'_> {
    let Event::Start(Tag::Link { link_type, dest_url, title, id }) = event else { return event };
    let page = dest_url.strip_suffix(".ipynb").filter(|_| !dest_url.contains("://"));
    let dest_url = page.map_or(dest_url.clone(), |page| CowStr::from(format!("{page}.html")));
    Event::Start(Tag::Link { link_type, dest_url, title, id })
}

fn without_links(markdown: &str) -> String {
    let is_link = |event: &Event| {
        matches!(event, Event::Start(Tag::Link { .. }) | Event::End(pulldown_cmark::TagEnd::Link))
    };
    html(parsed(markdown).filter(|event| !is_link(event)))
}

/// A bitmap image in an output.
fn image(output: &Value) -> Option<String> {
    BITMAPS.iter().find_map(|mime| {
        let content: String = joined(output["data"].get(*mime)?).split_whitespace().collect();
        Some(format!("<img src=\"data:{mime};base64,{}\" alt=\"output\">\n", escape(&content)))
    })
}

fn output(output: &Value) -> String {
    let data = |mime: &str| output["data"].get(mime).map(joined);
    match output["output_type"].as_str() {
        Some("stream") => format!("<pre class=\"out\">{}</pre>\n", escape(&joined(&output["text"]))),
        Some("error") => {
            let lines: Vec<_> =
                output["traceback"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let text = match lines.is_empty() {
                true => {
                    let [name, value] =
                        ["ename", "evalue"].map(|field| output[field].as_str().unwrap_or_default());
                    format!("{name}: {value}")
                }
                false => without_colours(&lines.join("\n")),
            };
            format!("<pre class=\"err\">{}</pre>\n", escape(&text))
        }
        // Output of a cell, in the richest format available, as Jupyter shows it.
        _ => match data("image/svg+xml").or_else(|| data("text/html")) {
            Some(rich) => format!("<div class=\"rich\">{rich}</div>\n"),
            None => image(output)
                .or_else(|| data("text/markdown").map(|text| html(parsed(&text))))
                .unwrap_or_else(|| {
                    format!("<pre class=\"out\">{}</pre>\n", escape(&data("text/plain").unwrap_or_default()))
                }),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn images_text_and_tracebacks_are_shown() {
        for (shown, expected) in [
            (
                json!({"data": {"image/png": ["iVBO\n", "Rw0K\n"], "text/plain": "x"}}),
                "src=\"data:image/png;base64,iVBORw0K\"",
            ),
            (json!({"data": {"text/markdown": "*a*"}}), "<em>a</em>"),
            (json!({"data": {"text/plain": "a < b"}}), "a &lt; b"),
            (
                json!({"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["\u{1b}[31mE\u{1b}[0m: v", "hint: w"]}),
                "E: v\nhint: w",
            ),
            (json!({"output_type": "error", "ename": "E", "evalue": "v", "traceback": []}), "E: v"),
        ] {
            let page = output(&shown);
            assert!(page.contains(expected), "{page}");
        }
        assert_eq!(
            cell(&json!({"cell_type": "raw", "source": "a & b"})),
            "<pre class=\"out\">a &amp; b</pre>\n"
        );
    }
}
