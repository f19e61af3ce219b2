//! From text to a template.

use serde_json::Value;

use super::{Command, Function, Operand, ParseTemplateError, Piece, Pipeline};

/// Splits a text into what stands for itself and what is evaluated.
pub(super) fn template(text: &str) -> Result<Vec<Piece>, ParseTemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    while let Some((before, after)) = rest.split_once("{{") {
        let end = closing(after).ok_or_else(|| ParseTemplateError::Unclosed(format!("{{{{{after}")))?;
        let (mut inside, next) = (&after[..end], &after[end + 2..]);
        let mut before = if trim { before.trim_start() } else { before };
        if let Some(shorter) = inside.strip_prefix("- ") {
            (inside, before) = (shorter, before.trim_end());
        }
        trim = inside.ends_with(" -");
        inside = inside.strip_suffix(" -").unwrap_or(inside);
        text_piece(&mut pieces, before);
        let mut tokens = tokens(inside)?.into_iter().peekable();
        pieces.push(Piece::Action(pipeline(&mut tokens)?));
        if let Some(token) = tokens.next() {
            return Err(ParseTemplateError::Unexpected(token.to_string()));
        }
        rest = next;
    }
    text_piece(&mut pieces, if trim { rest.trim_start() } else { rest });
    Ok(pieces)
}

fn text_piece(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.replace("\\t", "\t").replace("\\n", "\n")));
    }
}

/// Where the action ends: at `}}` outside of a quoted text.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if character == '\\' => escaped = true,
            Some(open) if character == open => quote = None,
            Some(_) => {}
            None if character == '"' || character == '`' => quote = Some(character),
            None if text[at..].starts_with("}}") => return Some(at),
            None => {}
        }
    }
    // A quote that never closes is told as such.
    quote.and_then(|_| text.find("}}"))
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Open,
    Close,
    Pipe,
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Word(word) => f.write_str(word),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Open => f.write_str("("),
            Self::Close => f.write_str(")"),
            Self::Pipe => f.write_str("|"),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, ParseTemplateError> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '(' | ')' | '|' => {
                tokens.push(match first {
                    '(' => Token::Open,
                    ')' => Token::Close,
                    _ => Token::Pipe,
                });
                1
            }
            '"' | '`' => {
                let (quoted, length) = quoted(rest, first)?;
                tokens.push(Token::Text(quoted));
                length
            }
            _ => {
                let end = |character: char| character.is_whitespace() || "()|\"`".contains(character);
                let length = rest.find(end).unwrap_or(rest.len());
                tokens.push(Token::Word(rest[..length].to_owned()));
                length
            }
        };
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

/// A quoted text at the beginning of `text`, and how many bytes it takes there.
fn quoted(text: &str, quote: char) -> Result<(String, usize), ParseTemplateError> {
    let mut out = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' if quote == '"' => match characters.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, 't')) => out.push('\t'),
                Some((_, other)) => out.push(other),
                None => break,
            },
            _ if character == quote => return Ok((out, at + 1)),
            _ => out.push(character),
        }
    }
    Err(ParseTemplateError::Quote(text.to_owned()))
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<Token>>;

fn pipeline(tokens: &mut Tokens) -> Result<Pipeline, ParseTemplateError> {
    let mut commands = vec![command(tokens)?];
    while tokens.next_if_eq(&Token::Pipe).is_some() {
        commands.push(command(tokens)?);
    }
    Ok(Pipeline(commands))
}

fn command(tokens: &mut Tokens) -> Result<Command, ParseTemplateError> {
    match tokens.peek() {
        None | Some(Token::Pipe | Token::Close) => Err(ParseTemplateError::Missing),
        Some(Token::Word(word))
            if word.starts_with(|first: char| first.is_ascii_alphabetic()) && literal(word).is_none() =>
        {
            let known = Function::ALL.iter().find(|(name, _)| name == word).map(|(_, function)| *function);
            let function = known.ok_or_else(|| ParseTemplateError::Function(word.clone()))?;
            tokens.next();
            let mut arguments = Vec::new();
            while !matches!(tokens.peek(), None | Some(Token::Pipe | Token::Close)) {
                arguments.push(operand(tokens)?);
            }
            Ok(Command::Call { function, arguments })
        }
        Some(_) => Ok(Command::Operand(operand(tokens)?)),
    }
}

fn operand(tokens: &mut Tokens) -> Result<Operand, ParseTemplateError> {
    match tokens.next() {
        Some(Token::Text(text)) => Ok(Operand::Literal(Value::String(text))),
        Some(Token::Word(word)) => match word.strip_prefix('.') {
            Some("") => Ok(Operand::Field(vec![])),
            Some(path) if path.split('.').all(is_identifier) => {
                Ok(Operand::Field(path.split('.').map(str::to_owned).collect()))
            }
            _ => literal(&word).map(Operand::Literal).ok_or(ParseTemplateError::Unexpected(word)),
        },
        Some(Token::Open) => {
            let inner = pipeline(tokens)?;
            match tokens.next() {
                Some(Token::Close) => Ok(Operand::Parenthesized(inner)),
                other => Err(ParseTemplateError::Unexpected(
                    other.map_or_else(|| "end".to_owned(), |token| token.to_string()),
                )),
            }
        }
        Some(token @ (Token::Close | Token::Pipe)) => Err(ParseTemplateError::Unexpected(token.to_string())),
        None => Err(ParseTemplateError::Missing),
    }
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|character| character.is_alphanumeric() || character == '_')
}

fn literal(word: &str) -> Option<Value> {
    match word {
        "true" => Some(Value::Bool(true)),
        "false" => Some(Value::Bool(false)),
        _ => word.parse::<i64>().ok().map(Value::from),
    }
}
