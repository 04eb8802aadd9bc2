//! Cuts a query's text into tokens, each with its column.

use super::{Number, QueryError, TEXT_BYTES_MAX};
use std::{fmt, iter::Peekable, str::Chars};

/// What a query is written with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Number(Number),
    Text(String),
    /// A keyword or an attribute.
    Word(String),
    /// An operator or a bracket.
    Symbol(&'static str),
    End,
}

/// Longest first, or `<=` would be read as `<`.
const SYMBOLS: [&str; 18] =
    ["&&", "||", "<=", ">=", "==", "!=", "<", ">", "!", "(", ")", "[", "]", ",", "+", "-", "*", "/"];

/// What a number can be followed by at once: times what, over what.
const UNITS: [(&str, (i128, i128)); 14] = [
    ("", (1, 1)),
    ("%", (1, 100)),
    ("k", (1_000, 1)),
    ("M", (1_000_000, 1)),
    ("G", (1_000_000_000, 1)),
    ("T", (1_000_000_000_000, 1)),
    ("MiB", (1, 1_024)),
    ("GiB", (1, 1)),
    ("TiB", (1_024, 1)),
    ("s", (1, 1)),
    ("min", (60, 1)),
    ("h", (3_600, 1)),
    ("d", (86_400, 1)),
    ("MAI", (1, 1)),
];

/// The tokens of a text with their columns, counted in characters from 1, ended by [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, QueryError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let column = |rest: &str| {
        let read = text.len().saturating_sub(rest.len());
        text.get(..read).map_or(0, |read| read.chars().count()).saturating_add(1)
    };
    loop {
        rest = rest.trim_start();
        let at = column(rest);
        let Some(first) = rest.chars().next() else {
            tokens.push((at, Token::End));
            return Ok(tokens);
        };
        let token;
        (token, rest) = if first.is_ascii_digit() {
            number(rest).map_err(|why| QueryError::at(at, why))?
        } else if first.is_ascii_alphabetic() {
            let (word, rest) = split(rest, |c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
            (Token::Word(word.to_owned()), rest)
        } else if let Some(after) = rest.strip_prefix('"') {
            quoted(after).map_err(|why| QueryError::at(at, why))?
        } else {
            let symbol = SYMBOLS.into_iter().find_map(|symbol| Some((symbol, rest.strip_prefix(symbol)?)));
            let (symbol, rest) =
                symbol.ok_or_else(|| QueryError::at(at, format_args!("{first:?} means nothing here")))?;
            (Token::Symbol(symbol), rest)
        };
        tokens.push((at, token));
    }
}

/// Digits, point, exponent, unit.
fn number(text: &str) -> Result<(Token, &str), String> {
    let mut end = 0usize;
    let mut chars = text.chars().peekable();
    let digits = |chars: &mut Peekable<Chars<'_>>, end: &mut usize| {
        while chars.next_if(char::is_ascii_digit).is_some() {
            *end = end.saturating_add(1);
        }
    };
    digits(&mut chars, &mut end);
    if chars.next_if_eq(&'.').is_some() {
        end = end.saturating_add(1);
        digits(&mut chars, &mut end);
    }
    // An exponent only if digits follow, with a sign or without.
    let mut ahead = chars.clone();
    if ahead.next_if(|c| matches!(c, 'e' | 'E')).is_some() {
        let sign = usize::from(ahead.next_if(|c| matches!(c, '+' | '-')).is_some());
        if ahead.peek().is_some_and(char::is_ascii_digit) {
            end = end.saturating_add(1).saturating_add(sign);
            digits(&mut ahead, &mut end);
        }
    }
    let (written, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    let (unit, rest) = match rest.strip_prefix('%') {
        Some(rest) => ("%", rest),
        None => split(rest, |c| c.is_ascii_alphanumeric() || c == '_'),
    };
    let Some((_, factor)) = UNITS.into_iter().find(|(name, _)| *name == unit) else {
        let known: Vec<&str> = UNITS.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect();
        return Err(format!("{unit:?} is no unit; there are {}", known.join(", ")));
    };
    Ok((Token::Number(Number::read(written, factor)?), rest))
}

/// What follows an opening quote.
fn quoted(text: &str) -> Result<(Token, &str), String> {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        let c = match chars.next() {
            Some('"') => return Ok((Token::Text(value), chars.as_str())),
            Some('\\') => match chars.next() {
                Some(c @ ('"' | '\\')) => c,
                _ => return Err("only \\\" and \\\\ may follow a backslash".to_owned()),
            },
            Some(c) if c.is_control() => return Err("a text holds no control characters".to_owned()),
            Some(c) => c,
            None => return Err("the text has no closing quote".to_owned()),
        };
        value.push(c);
        if value.len() > TEXT_BYTES_MAX {
            return Err(format!("a text has at most {TEXT_BYTES_MAX} bytes"));
        }
    }
}

/// The characters at the front that are `of` a kind, and what follows.
fn split(text: &str, of: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !of(c)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Number(number) => number.fmt(f),
            Token::Text(text) => write!(f, "{text:?}"),
            Token::Word(word) => f.write_str(word),
            Token::Symbol(symbol) => f.write_str(symbol),
            Token::End => f.write_str("the end"),
        }
    }
}
