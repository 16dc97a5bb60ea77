//! The user's token for the Hub.

use std::fmt;

use hf_hub::Cache;

/// A token and its source.
pub(crate) struct Token {
    pub(crate) secret: String,
    pub(crate) source: Source,
}

#[derive(Clone, Copy)]
pub(crate) enum Source {
    Environment,
    /// Written by `huggingface-cli login`.
    File,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Environment => f.write_str("HF_TOKEN"),
            Source::File => write!(f, "{}", Cache::from_env().token_path().display()),
        }
    }
}

impl Token {
    /// Returns the token of `HF_TOKEN`, else that of `huggingface-cli login`.
    pub(crate) fn find() -> Option<Token> {
        let set = std::env::var("HF_TOKEN").ok().map(|token| token.trim().to_owned());
        let set = set.filter(|token| !token.is_empty());
        let set = set.map(|secret| Token { secret, source: Source::Environment });
        let in_file = || Some(Token { secret: Cache::from_env().token()?, source: Source::File });
        set.or_else(in_file)
    }
}
