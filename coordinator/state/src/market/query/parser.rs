//! Reads a query: precedence climbing over the tokens, with every node's type checked as it is made.
// Whatever does not fit its place is refused alike.
#![allow(clippy::wildcard_enum_match_arm)]

use super::{
    Attribute, Comparison, Condition, Numeric, Operator, Provenance, QUERY_BYTES_MAX, QUERY_DEPTH_MAX, TextAttribute,
    Values,
    lexer::{self, Token},
};
use std::{fmt, sync::Arc};

/// Parentheses and signs inside each other while reading: a canonical text has at most two for each level.
const NESTING_MAX: usize = 2 * QUERY_DEPTH_MAX + 2;

/// Why a text is no query: in which column (characters, from 1) what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {what}")]
pub struct QueryError {
    /// Where.
    pub column: usize,
    /// What is wrong there.
    pub what: String,
}

impl QueryError {
    pub(super) fn at(column: usize, what: impl fmt::Display) -> Self {
        Self { column, what: what.to_string() }
    }

    pub(super) fn too_long(bytes: usize) -> Self {
        Self::at(1, format_args!("the query has {bytes} bytes, at most {QUERY_BYTES_MAX}"))
    }
}

/// An expression of some type, before it is known whether that type fits its place.
enum Typed {
    Condition(Condition),
    Numeric(Numeric),
    Text(String),
    TextAttribute(TextAttribute),
    /// `provenance(a)`.
    Provenance(Attribute),
}

impl Typed {
    const fn kind(&self) -> &'static str {
        match self {
            Typed::Condition(_) => "a condition",
            Typed::Numeric(_) => "a number",
            Typed::Text(_) | Typed::TextAttribute(_) => "a text",
            Typed::Provenance(_) => "a provenance",
        }
    }
}

/// Reads the whole text as one condition.
pub(super) fn parse(text: &str) -> Result<Condition, QueryError> {
    if text.len() > QUERY_BYTES_MAX {
        return Err(QueryError::too_long(text.len()));
    }
    let tokens = lexer::tokens(text)?;
    if tokens.len() == 1 {
        return Ok(Condition::Const(true));
    }
    let mut parser = Parser { tokens: &tokens, at: 0, nesting: 0 };
    let (column, found) = (parser.column(), parser.or()?);
    let condition = condition(column, found)?;
    parser.expect(None)?;
    if depth(&condition) > QUERY_DEPTH_MAX {
        return Err(QueryError::at(1, format_args!("the query is nested over {QUERY_DEPTH_MAX} deep")));
    }
    Ok(condition)
}

/// Makes one number of two.
type Join = fn(Box<(Numeric, Numeric)>) -> Numeric;

struct Parser<'a> {
    /// Ended by [`Token::End`], which is never passed.
    tokens: &'a [(usize, Token)],
    at: usize,
    nesting: usize,
}

impl Parser<'_> {
    fn or(&mut self) -> Result<Typed, QueryError> {
        self.joined(
            "||",
            Self::and,
            |all| match all {
                Condition::Or(inner) => Ok(inner),
                other => Err(other),
            },
            Condition::Or,
        )
    }

    fn and(&mut self) -> Result<Typed, QueryError> {
        self.joined(
            "&&",
            Self::comparison,
            |all| match all {
                Condition::And(inner) => Ok(inner),
                other => Err(other),
            },
            Condition::And,
        )
    }

    /// Operands between which `symbol` stands; those that are such lists themselves are opened, since their order of
    /// reading changes nothing.
    fn joined(
        &mut self,
        symbol: &'static str,
        operand: fn(&mut Self) -> Result<Typed, QueryError>,
        open: fn(Condition) -> Result<Vec<Condition>, Condition>,
        join: fn(Vec<Condition>) -> Condition,
    ) -> Result<Typed, QueryError> {
        let column = self.column();
        let first = operand(self)?;
        if !self.next_is(symbol) {
            return Ok(first);
        }
        let mut all = Vec::new();
        let mut add = |one| match open(one) {
            Ok(inner) => all.extend(inner),
            Err(one) => all.push(one),
        };
        add(condition(column, first)?);
        while self.take(symbol) {
            let column = self.column();
            add(condition(column, operand(self)?)?);
        }
        Ok(Typed::Condition(join(all)))
    }

    fn comparison(&mut self) -> Result<Typed, QueryError> {
        let column = self.column();
        let left = self.sum()?;
        if self.take_word("in") {
            return self.list(column, left).map(Typed::Condition);
        }
        let Some(operator) = self.take_operator() else { return Ok(left) };
        let right_column = self.column();
        let right = self.sum()?;
        let compared = compare(left, operator, right).map_err(|what| QueryError::at(right_column, what))?;
        if self.take_operator().is_some() {
            return Err(QueryError::at(column, "comparisons do not chain; join them with &&"));
        }
        Ok(Typed::Condition(compared))
    }

    fn sum(&mut self) -> Result<Typed, QueryError> {
        self.arithmetic(Self::product, [("+", Numeric::Sum), ("-", Numeric::Difference)])
    }

    fn product(&mut self) -> Result<Typed, QueryError> {
        self.arithmetic(Self::unary, [("*", Numeric::Product), ("/", Numeric::Quotient)])
    }

    fn arithmetic(
        &mut self,
        operand: fn(&mut Self) -> Result<Typed, QueryError>,
        operators: [(&'static str, Join); 2],
    ) -> Result<Typed, QueryError> {
        let column = self.column();
        let mut left = operand(self)?;
        while let Some((_, make)) = operators.into_iter().find(|(symbol, _)| self.take(symbol)) {
            let right_column = self.column();
            let right = operand(self)?;
            left = Typed::Numeric(make(Box::new((numeric(column, left)?, numeric(right_column, right)?))));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Typed, QueryError> {
        let column = self.column();
        if self.take("!") {
            let inner = condition(column, self.nested(Self::unary)?)?;
            return Ok(Typed::Condition(opposite(inner)));
        }
        if self.take("-") {
            let inner = numeric(column, self.nested(Self::unary)?)?;
            return Ok(Typed::Numeric(match inner {
                Numeric::Literal(number) => Numeric::Literal(number.negated().unwrap_or(number)),
                inner => Numeric::Negated(Box::new(inner)),
            }));
        }
        self.primary()
    }

    fn primary(&mut self) -> Result<Typed, QueryError> {
        let column = self.column();
        match self.advance() {
            Token::Number(number) => Ok(Typed::Numeric(Numeric::Literal(number))),
            Token::Text(text) => Ok(Typed::Text(text)),
            Token::Symbol("(") => {
                let inner = self.nested(Self::or)?;
                self.expect(Some(")"))?;
                Ok(inner)
            }
            Token::Word(word) => match word.as_str() {
                "true" => Ok(Typed::Condition(Condition::Const(true))),
                "false" => Ok(Typed::Condition(Condition::Const(false))),
                "defined" => self.named().map(|of| Typed::Condition(Condition::Defined(of))),
                "provenance" => self.named().map(Typed::Provenance),
                name => attribute(column, name).map(|attribute| match attribute {
                    Attribute::Number(attribute) => Typed::Numeric(Numeric::Attribute(attribute)),
                    Attribute::Text(attribute) => Typed::TextAttribute(attribute),
                }),
            },
            token @ (Token::Symbol(_) | Token::End) => {
                Err(QueryError::at(column, format_args!("found {token}, expected an attribute, a value or `(`")))
            }
        }
    }

    /// An attribute's name in parentheses.
    fn named(&mut self) -> Result<Attribute, QueryError> {
        self.expect(Some("("))?;
        let column = self.column();
        let attribute = match self.advance() {
            Token::Word(name) => attribute(column, &name)?,
            token => return Err(QueryError::at(column, format_args!("found {token}, expected an attribute"))),
        };
        self.expect(Some(")"))?;
        Ok(attribute)
    }

    /// What follows `in`.
    fn list(&mut self, column: usize, left: Typed) -> Result<Condition, QueryError> {
        self.expect(Some("["))?;
        let mut values = Vec::new();
        loop {
            let column = self.column();
            values.push((column, self.unary()?));
            if !self.take(",") {
                break;
            }
        }
        self.expect(Some("]"))?;
        let values = match left {
            Typed::Numeric(Numeric::Attribute(attribute)) => {
                let mut numbers = Vec::new();
                for (column, value) in values {
                    match value {
                        Typed::Numeric(Numeric::Literal(number)) => numbers.push(number),
                        other => return Err(unexpected(column, &other, "a number")),
                    }
                }
                numbers.sort_unstable();
                numbers.dedup();
                Values::Numbers(attribute, numbers)
            }
            Typed::TextAttribute(attribute) => {
                let mut texts: Vec<Arc<str>> = Vec::new();
                for (column, value) in values {
                    match value {
                        Typed::Text(text) => texts.push(text.into()),
                        other => return Err(unexpected(column, &other, "a text in quotes")),
                    }
                }
                texts.sort_unstable();
                texts.dedup();
                Values::Texts(attribute, texts)
            }
            other => return Err(unexpected(column, &other, "an attribute before `in`")),
        };
        Ok(Condition::In { values, equal: true })
    }

    fn nested(&mut self, inner: fn(&mut Self) -> Result<Typed, QueryError>) -> Result<Typed, QueryError> {
        if self.nesting >= NESTING_MAX {
            return Err(QueryError::at(self.column(), "too many levels of parentheses and signs"));
        }
        self.nesting = self.nesting.saturating_add(1);
        let found = inner(self)?;
        self.nesting = self.nesting.saturating_sub(1);
        Ok(found)
    }

    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(_, token)| token)
    }

    fn column(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |(column, _)| *column)
    }

    fn advance(&mut self) -> Token {
        let token = self.peek().clone();
        self.at = self.at.saturating_add(1).min(self.tokens.len().saturating_sub(1));
        token
    }

    fn next_is(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(found) if *found == symbol)
    }

    fn take(&mut self, symbol: &str) -> bool {
        let is = self.next_is(symbol);
        if is {
            self.advance();
        }
        is
    }

    fn take_word(&mut self, word: &str) -> bool {
        let is = matches!(self.peek(), Token::Word(found) if found == word);
        if is {
            self.advance();
        }
        is
    }

    fn take_operator(&mut self) -> Option<Operator> {
        Operator::ALL.into_iter().find(|(symbol, _)| self.take(symbol)).map(|(_, operator)| operator)
    }

    /// Passes a symbol, or checks that this is the end.
    fn expect(&mut self, symbol: Option<&'static str>) -> Result<(), QueryError> {
        let is = match symbol {
            Some(symbol) => self.take(symbol),
            None => *self.peek() == Token::End,
        };
        if is {
            return Ok(());
        }
        let wanted = symbol.map_or("an operator or the end".to_owned(), |symbol| format!("`{symbol}`"));
        Err(QueryError::at(self.column(), format_args!("found {}, expected {wanted}", self.peek())))
    }
}

/// The comparison of two sides, in the one form that it is kept in: equality with a value as a list of it, other values on
/// the right.
fn compare(left: Typed, operator: Operator, right: Typed) -> Result<Condition, String> {
    let kinds = (left.kind(), right.kind());
    let equal = match operator {
        Operator::Equal => Some(true),
        Operator::Unequal => Some(false),
        Operator::Less | Operator::AtMost | Operator::Greater | Operator::AtLeast => None,
    };
    let found = match (left, right, equal) {
        (Typed::Numeric(left), Typed::Numeric(right), _) => match (left, right, equal) {
            (Numeric::Attribute(attribute), Numeric::Literal(number), Some(equal))
            | (Numeric::Literal(number), Numeric::Attribute(attribute), Some(equal)) => {
                Condition::In { values: Values::Numbers(attribute, vec![number]), equal }
            }
            (left @ Numeric::Literal(_), right, _) if !matches!(right, Numeric::Literal(_)) => {
                let operator = operator.mirrored();
                Condition::Compare(Box::new(Comparison { left: right, operator, right: left }))
            }
            (left, right, _) => Condition::Compare(Box::new(Comparison { left, operator, right })),
        },
        (Typed::TextAttribute(attribute), Typed::Text(text), Some(equal))
        | (Typed::Text(text), Typed::TextAttribute(attribute), Some(equal)) => {
            Condition::In { values: Values::Texts(attribute, vec![text.into()]), equal }
        }
        (Typed::Provenance(of), Typed::Text(text), Some(equal))
        | (Typed::Text(text), Typed::Provenance(of), Some(equal)) => match Provenance::named(&text) {
            Some(is) => Condition::Provenance { of, is, equal },
            None => {
                let known: Vec<&str> = Provenance::ALL.iter().map(|one| one.name()).collect();
                return Err(format!("{text:?} is no provenance; there are {}", known.join(", ")));
            }
        },
        _ => return Err(format!("{} cannot be compared with {} by {}", kinds.0, kinds.1, operator.symbol())),
    };
    Ok(found)
}

/// The opposite, in the one form that it is kept in.
fn opposite(condition: Condition) -> Condition {
    match condition {
        Condition::In { values, equal } => Condition::In { values, equal: !equal },
        Condition::Provenance { of, is, equal } => Condition::Provenance { of, is, equal: !equal },
        Condition::Const(value) => Condition::Const(!value),
        other => Condition::Not(Box::new(other)),
    }
}

fn attribute(column: usize, name: &str) -> Result<Attribute, QueryError> {
    Attribute::named(name).ok_or_else(|| QueryError::at(column, format_args!("there is no attribute {name}")))
}

fn condition(column: usize, found: Typed) -> Result<Condition, QueryError> {
    match found {
        Typed::Condition(condition) => Ok(condition),
        other => Err(unexpected(column, &other, "a condition")),
    }
}

fn numeric(column: usize, found: Typed) -> Result<Numeric, QueryError> {
    match found {
        Typed::Numeric(numeric) => Ok(numeric),
        other => Err(unexpected(column, &other, "a number")),
    }
}

fn unexpected(column: usize, found: &Typed, wanted: &str) -> QueryError {
    QueryError::at(column, format_args!("this is {}, expected {wanted}", found.kind()))
}

/// Levels of operators one inside the other.
fn depth(condition: &Condition) -> usize {
    let inner = match condition {
        Condition::Const(_) | Condition::In { .. } | Condition::Defined(_) | Condition::Provenance { .. } => 0,
        Condition::Compare(compare) => depth_of(&compare.left).max(depth_of(&compare.right)),
        Condition::Not(inner) => depth(inner),
        Condition::And(all) | Condition::Or(all) => all.iter().map(depth).max().unwrap_or(0),
    };
    inner.saturating_add(1)
}

fn depth_of(numeric: &Numeric) -> usize {
    let inner = match numeric {
        Numeric::Literal(_) | Numeric::Attribute(_) => 0,
        Numeric::Negated(inner) => depth_of(inner),
        Numeric::Sum(sides) | Numeric::Difference(sides) | Numeric::Product(sides) | Numeric::Quotient(sides) => {
            depth_of(&sides.0).max(depth_of(&sides.1))
        }
    };
    inner.saturating_add(1)
}
