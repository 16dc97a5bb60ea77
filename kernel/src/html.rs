//! Executed notebooks as pages that open in any browser, with nothing to fetch.

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag};
use serde_json::Value;

use crate::run::joined;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#222}\
pre{background:#f6f8fa;padding:.8rem;border-radius:6px;overflow-x:auto;font-size:13px;line-height:1.45}\
pre.out{background:none;padding:.2rem .8rem;white-space:pre-wrap}pre.err{background:#fdecea}\
code{font-family:ui-monospace,monospace}table{border-collapse:collapse;display:block;overflow-x:auto}td,th{padding:.2rem .8rem;border-bottom:1px solid #ddd}\
svg{max-width:100%;height:auto}\
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(16rem,1fr));gap:1.5rem}\
.card{border:1px solid #ddd;border-radius:6px;padding:1rem;color:inherit;text-decoration:none}.card h2{margin:0;font-size:1.1rem}\
.card:hover,.card:focus{border-color:#0072b2}.card svg{max-height:10rem}";

/// A notebook as a page.
pub fn page(notebook: &Value, title: &str) -> String {
    document(title, &cells(notebook).map(cell).collect::<String>())
}

/// A page that leads to those of several notebooks: for each its file's name, and itself.
pub fn gallery(pages: &[(String, Value)]) -> String {
    let cards: String = pages.iter().map(|(file, notebook)| card(file, notebook)).collect();
    document("Headstart", &format!("<h1>Headstart</h1>\n<div class=\"cards\">\n{cards}</div>\n"))
}

/// A notebook's title, its first paragraph and its first picture.
fn card(file: &str, notebook: &Value) -> String {
    let prose = cells(notebook).find(|cell| cell["cell_type"] == "markdown");
    let prose = prose.map(|cell| joined(&cell["source"])).unwrap_or_default();
    let (heading, text) = match prose.split_once('\n') {
        Some((first, rest)) if first.starts_with("# ") => (first[2..].trim(), rest.trim()),
        _ => (file, prose.trim()),
    };
    let outputs = cells(notebook).filter_map(|cell| cell["outputs"].as_array()).flatten();
    let picture = outputs.filter_map(|output| output["data"].get("image/svg+xml")).map(joined).next();
    format!(
        "<a class=\"card\" href=\"{}\"><h2>{}</h2>\n{}{}</a>\n",
        escape(file),
        escape(heading),
        without_links(text.split("\n\n").next().unwrap_or_default()),
        picture.unwrap_or_default()
    )
}

fn cells(notebook: &Value) -> impl Iterator<Item = &Value> {
    notebook["cells"].as_array().into_iter().flatten()
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\n<body>\n{body}</body></html>\n",
        escape(title)
    )
}

fn cell(cell: &Value) -> String {
    let source = joined(&cell["source"]);
    if cell["cell_type"] == "markdown" {
        return html(parsed(&source).map(to_page));
    }
    let outputs: String = cell["outputs"].as_array().into_iter().flatten().map(output).collect();
    format!("<pre><code>{}</code></pre>\n{outputs}", escape(&source))
}

fn parsed(markdown: &str) -> Parser<'_> {
    Parser::new_ext(markdown, Options::ENABLE_TABLES)
}

fn html<'a>(events: impl Iterator<Item = Event<'a>>) -> String {
    let mut html = String::new();
    pulldown_cmark::html::push_html(&mut html, events);
    html
}

/// From page to page, as the notebooks lead from one to another.
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
