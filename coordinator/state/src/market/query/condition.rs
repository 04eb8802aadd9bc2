//! The typed form of a query and its canonical text.

use super::{Attribute, Number, NumberAttribute, Provenance, TextAttribute};
use std::{fmt, sync::Arc};

/// Something that is true, false or undefined of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Always this.
    Const(bool),
    /// Two numbers compared.
    Compare(Box<Comparison>),
    /// An attribute that equals one of some values (at least one), or, if not `equal`, none of them.
    In {
        /// Among which values; it names the attribute too.
        values: Values,
        /// Whether it must be one of them.
        equal: bool,
    },
    /// Whether an attribute has a value.
    Defined(Attribute),
    /// Where an attribute's value comes from.
    Provenance {
        /// Of which attribute.
        of: Attribute,
        /// From where.
        is: Provenance,
        /// Whether it must be that.
        equal: bool,
    },
    /// The opposite.
    Not(Box<Condition>),
    /// All of them; at least two.
    And(Vec<Condition>),
    /// One of them; at least two.
    Or(Vec<Condition>),
}

/// Values of one attribute, ascending, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Values {
    /// Of a number.
    Numbers(NumberAttribute, Vec<Number>),
    /// Of a text.
    Texts(TextAttribute, Vec<Arc<str>>),
}

/// `left operator right`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Before the operator.
    pub left: Numeric,
    /// How they are compared.
    pub operator: Operator,
    /// After it.
    pub right: Numeric,
}

/// How two numbers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `<`.
    Less,
    /// `<=`.
    AtMost,
    /// `>`.
    Greater,
    /// `>=`.
    AtLeast,
    /// `==`.
    Equal,
    /// `!=`.
    Unequal,
}

/// A number of an offer; undefined if an attribute in it is, or if it leaves the range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Numeric {
    /// A literal.
    Literal(Number),
    /// An attribute.
    Attribute(NumberAttribute),
    /// The opposite sign.
    Negated(Box<Numeric>),
    /// `left + right`.
    Sum(Box<(Numeric, Numeric)>),
    /// `left - right`.
    Difference(Box<(Numeric, Numeric)>),
    /// `left * right`.
    Product(Box<(Numeric, Numeric)>),
    /// `left / right`.
    Quotient(Box<(Numeric, Numeric)>),
}

impl Operator {
    pub(super) const ALL: [(&'static str, Operator); 6] = [
        ("<", Operator::Less),
        ("<=", Operator::AtMost),
        (">", Operator::Greater),
        (">=", Operator::AtLeast),
        ("==", Operator::Equal),
        ("!=", Operator::Unequal),
    ];

    /// As it is written.
    pub const fn symbol(self) -> &'static str {
        match self {
            Operator::Less => "<",
            Operator::AtMost => "<=",
            Operator::Greater => ">",
            Operator::AtLeast => ">=",
            Operator::Equal => "==",
            Operator::Unequal => "!=",
        }
    }

    /// The operator with its sides exchanged.
    pub const fn mirrored(self) -> Self {
        match self {
            Operator::Less => Operator::Greater,
            Operator::AtMost => Operator::AtLeast,
            Operator::Greater => Operator::Less,
            Operator::AtLeast => Operator::AtMost,
            Operator::Equal => Operator::Equal,
            Operator::Unequal => Operator::Unequal,
        }
    }
}

impl Condition {
    /// Its conjuncts: itself, unless it is an `&&`.
    pub fn clauses(&self) -> &[Condition] {
        match self {
            Condition::And(clauses) => clauses,
            Condition::Const(_)
            | Condition::Compare(_)
            | Condition::In { .. }
            | Condition::Defined(_)
            | Condition::Provenance { .. }
            | Condition::Not(_)
            | Condition::Or(_) => std::slice::from_ref(self),
        }
    }

    /// Whether an attribute's value can change what it is.
    pub fn mentions(&self, attribute: Attribute) -> bool {
        match self {
            Condition::Const(_) => false,
            Condition::Compare(compare) => compare.left.mentions(attribute) || compare.right.mentions(attribute),
            Condition::In { values, .. } => values.attribute() == attribute,
            Condition::Defined(of) | Condition::Provenance { of, .. } => *of == attribute,
            Condition::Not(inner) => inner.mentions(attribute),
            Condition::And(all) | Condition::Or(all) => all.iter().any(|one| one.mentions(attribute)),
        }
    }
}

impl Values {
    /// Whose values they are.
    pub fn attribute(&self) -> Attribute {
        match self {
            Values::Numbers(attribute, _) => Attribute::Number(*attribute),
            Values::Texts(attribute, _) => Attribute::Text(*attribute),
        }
    }

    /// Each as it is written.
    fn written(&self) -> Vec<String> {
        match self {
            Values::Numbers(_, numbers) => numbers.iter().map(Number::to_string).collect(),
            Values::Texts(_, texts) => texts.iter().map(|text| quoted(text)).collect(),
        }
    }
}

impl Numeric {
    fn mentions(&self, attribute: Attribute) -> bool {
        match self {
            Numeric::Literal(_) => false,
            Numeric::Attribute(of) => Attribute::Number(*of) == attribute,
            Numeric::Negated(inner) => inner.mentions(attribute),
            Numeric::Sum(sides) | Numeric::Difference(sides) | Numeric::Product(sides) | Numeric::Quotient(sides) => {
                sides.0.mentions(attribute) || sides.1.mentions(attribute)
            }
        }
    }
}

/// A text literal; only the quote and the backslash are written with a backslash before them.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Const(value) => value.fmt(f),
            Condition::Compare(compare) => {
                write!(f, "{} {} {}", compare.left, compare.operator.symbol(), compare.right)
            }
            Condition::In { values, equal } => {
                let (attribute, written) = (values.attribute(), values.written());
                match (written.as_slice(), equal) {
                    ([one], true) => write!(f, "{attribute} == {one}"),
                    ([one], false) => write!(f, "{attribute} != {one}"),
                    (all, true) => write!(f, "{attribute} in [{}]", all.join(", ")),
                    (all, false) => write!(f, "!({attribute} in [{}])", all.join(", ")),
                }
            }
            Condition::Defined(of) => write!(f, "defined({of})"),
            Condition::Provenance { of, is, equal } => {
                let symbol = if *equal { "==" } else { "!=" };
                write!(f, "provenance({of}) {symbol} \"{}\"", is.name())
            }
            Condition::Not(inner) => write!(f, "!({inner})"),
            Condition::And(all) => joined(f, all, " && "),
            Condition::Or(all) => joined(f, all, " || "),
        }
    }
}

/// Clauses between which an operator stands; those that bind no tighter are in parentheses.
fn joined(f: &mut fmt::Formatter<'_>, all: &[Condition], between: &str) -> fmt::Result {
    for (at, one) in all.iter().enumerate() {
        if at > 0 {
            f.write_str(between)?;
        }
        match one {
            Condition::And(_) | Condition::Or(_) => write!(f, "({one})")?,
            Condition::Const(_)
            | Condition::Compare(_)
            | Condition::In { .. }
            | Condition::Defined(_)
            | Condition::Provenance { .. }
            | Condition::Not(_) => fmt::Display::fmt(one, f)?,
        }
    }
    Ok(())
}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sides = |sides: &(Numeric, Numeric), symbol| write!(f, "({} {symbol} {})", sides.0, sides.1);
        match self {
            Numeric::Sum(both) => sides(both, '+'),
            Numeric::Difference(both) => sides(both, '-'),
            Numeric::Product(both) => sides(both, '*'),
            Numeric::Quotient(both) => sides(both, '/'),
            Numeric::Negated(inner) => write!(f, "-{inner}"),
            Numeric::Literal(number) => number.fmt(f),
            Numeric::Attribute(attribute) => f.write_str(attribute.name()),
        }
    }
}
