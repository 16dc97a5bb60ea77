//! Syntax highlighting: Rust code as HTML with a CSS class for each kind of token.

use ra_ap_rustc_lexer::{FrontmatterAllowed, LiteralKind, TokenKind, tokenize};

/// CSS colours, readable on light and dark backgrounds.
pub const STYLE: &str = "\
.kw{color:#8250df}.ty{color:#0550ae}.mc{color:#116329}.st{color:#953800}.nm{color:#0550ae}.cm{color:#6e7781;font-style:italic}\
@media(prefers-color-scheme:dark){.kw{color:#d2a8ff}.ty,.nm{color:#79c0ff}.mc{color:#7ee787}.st{color:#ffa657}.cm{color:#8b949e}}";

const KEYWORDS: [&str; 37] = [
    "as", "async", "await", "break", "const", "continue", "crate", "dyn", "else", "enum", "extern", "false",
    "fn", "for", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref", "return",
    "self", "static", "struct", "super", "trait", "true", "type", "unsafe", "use", "where", "while",
];

/// Converts a cell's code to HTML.
pub fn highlight(code: &str) -> String {
    let mut html = String::new();
    let mut at = 0;
    for token in tokenize(code, FrontmatterAllowed::No) {
        let text = &code[at..at + token.len as usize];
        at += token.len as usize;
        match class(token.kind, text, &code[at..]) {
            Some(class) => html += &format!("<span class=\"{class}\">{}</span>", escape(text)),
            None => html += &escape(text),
        }
    }
    html
}

/// CSS class of a token, from its kind, its text and the text after it.
fn class(kind: TokenKind, text: &str, rest: &str) -> Option<&'static str> {
    match kind {
        TokenKind::LineComment { .. } | TokenKind::BlockComment { .. } => Some("cm"),
        TokenKind::Literal { kind: LiteralKind::Int { .. } | LiteralKind::Float { .. }, .. } => Some("nm"),
        TokenKind::Literal { .. } => Some("st"),
        TokenKind::Ident if KEYWORDS.contains(&text) => Some("kw"),
        TokenKind::Ident if rest.starts_with('!') && !rest.starts_with("!=") => Some("mc"),
        TokenKind::Ident if text.starts_with(char::is_uppercase) => Some("ty"),
        _ => None,
    }
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_token_has_its_class() {
        let html = highlight("let a = Vec::<u8>::new(); // <b>\nprintln!(\"{}\", 1.5);");
        for part in [
            "<span class=\"kw\">let</span> a",
            "<span class=\"ty\">Vec</span>::&lt;u8&gt;::new()",
            "<span class=\"cm\">// &lt;b&gt;</span>",
            "<span class=\"mc\">println</span>!(<span class=\"st\">&quot;{}&quot;</span>",
            "<span class=\"nm\">1.5</span>",
        ] {
            assert!(html.contains(part), "{part} in {html}");
        }
    }

    #[test]
    fn unfinished_code_keeps_its_text() {
        for code in ["let s = \"open", "a != b", "'", "/* open", "é // ü", ":dep x = \"1\""] {
            let html = highlight(code);
            let mut text = String::new();
            let mut rest = &*html;
            while let Some((before, tag)) = rest.split_once('<') {
                text += before;
                rest = tag.split_once('>').expect("a tag ends").1;
            }
            text += rest;
            assert_eq!(text, escape(code));
        }
    }
}
