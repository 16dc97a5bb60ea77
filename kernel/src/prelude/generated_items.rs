//! Removal of the bodies of functions and `impl`s that a macro generates.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use crate::prelude::skeleton::{Cuts, is_for_compiler};

impl Cuts {
    /// Adds cuts for bodies and attributes in a macro's output: the standard library generates the methods
    /// of numbers twelve times, each with its documentation.
    pub fn add_generated(&mut self, tokens: TokenStream) {
        let mut in_signature = false;
        // Start of an unstable item.
        let mut unstable = None;
        // Between `impl` and its braces: whether it implements a trait.
        let mut header = None;
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match (token, tokens.peek()) {
                (TokenTree::Punct(hash), Some(TokenTree::Group(attribute)))
                    if hash.as_char() == '#' && is_for_readers(attribute) =>
                {
                    let start = hash.span().byte_range().start;
                    if first_word(attribute).as_deref() == Some("unstable") {
                        unstable = Some((start, self.0.len()));
                    }
                    self.0.push((start..attribute.span().byte_range().end, String::new()));
                    tokens.next();
                }
                // Arguments of another macro stay as that macro expects them.
                (TokenTree::Punct(mark), Some(TokenTree::Group(_))) if mark.as_char() == '!' => {
                    tokens.next();
                    (header, unstable) = (None, None);
                }
                (TokenTree::Ident(word), _) if word == "fn" => in_signature = true,
                (TokenTree::Punct(end), _) if end.as_char() == ';' => {
                    in_signature = false;
                    unstable = None;
                }
                (TokenTree::Group(body), _) if in_signature && body.delimiter() == Delimiter::Brace => {
                    if let Some((start, cuts)) = unstable.take() {
                        self.0.truncate(cuts);
                        self.0.push((start..body.span().byte_range().end, String::new()));
                    } else {
                        self.0.push((body.span().byte_range(), ";".to_owned()));
                    }
                    in_signature = false;
                }
                (TokenTree::Ident(word), _) if word == "impl" && !in_signature => header = Some(false),
                (TokenTree::Ident(word), Some(next)) if word == "for" && !is_punct(next, '<') => {
                    header = header.map(|_| true);
                }
                (TokenTree::Group(body), _)
                    if header == Some(true) && body.delimiter() == Delimiter::Brace =>
                {
                    header = None;
                    unstable = None;
                    self.add_generated_functions(body.stream());
                }
                (TokenTree::Group(group), _) if !in_signature => {
                    if group.delimiter() == Delimiter::Brace {
                        header = None;
                        unstable = None;
                    }
                    self.add_generated(group.stream());
                }
                _ => {}
            }
        }
    }

    /// Adds cuts for the functions of an `impl` that a macro generates.
    fn add_generated_functions(&mut self, items: TokenStream) {
        // Start of the item, and whether it is a function.
        let mut start = None;
        let mut is_function = false;
        for token in items {
            let range = token.span().byte_range();
            let begin = *start.get_or_insert(range.start);
            let ends = match &token {
                TokenTree::Ident(word) => {
                    is_function |= word == "fn";
                    false
                }
                TokenTree::Group(body) => body.delimiter() == Delimiter::Brace,
                other => is_punct(other, ';'),
            };
            if ends {
                if is_function && !is_punct(&token, ';') {
                    self.0.push((begin..range.end, String::new()));
                }
                (start, is_function) = (None, false);
            }
        }
    }
}

/// Whether an attribute in a macro is irrelevant for types: documentation, stability, hints to the
/// compiler.
fn is_for_readers(attribute: &Group) -> bool {
    first_word(attribute).is_some_and(|word| word == "doc" || word == "unstable" || is_for_compiler(&word))
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

fn first_word(attribute: &Group) -> Option<String> {
    let first = attribute.stream().into_iter().next()?;
    (attribute.delimiter() == Delimiter::Bracket).then(|| first.to_string())
}
