//! What a condition is of one offer, in Kleene's three-valued logic.

use super::{
    Attribute, Attributes, Comparison, Condition, Number, NumberAttribute, Numeric, Operator, Provenance,
    TextAttribute, Values,
};
use std::borrow::Cow;

/// Something that has attributes: values put together, or rows that are looked into as far as a condition asks.
pub trait Described {
    /// A number's value, if it has one.
    fn number(&self, attribute: NumberAttribute) -> Option<Number>;
    /// A text's value, if it has one.
    fn text(&self, attribute: TextAttribute) -> Option<Cow<'_, str>>;
    /// Where a value comes from; none for an undefined one.
    fn provenance(&self, attribute: Attribute) -> Option<Provenance>;
}

impl Described for Attributes {
    fn number(&self, attribute: NumberAttribute) -> Option<Number> {
        self.number(attribute)
    }

    fn text(&self, attribute: TextAttribute) -> Option<Cow<'_, str>> {
        self.text(attribute).map(|text| Cow::Borrowed(&**text))
    }

    fn provenance(&self, attribute: Attribute) -> Option<Provenance> {
        self.provenance(attribute)
    }
}

impl<D: Described> Described for Box<D> {
    fn number(&self, attribute: NumberAttribute) -> Option<Number> {
        (**self).number(attribute)
    }

    fn text(&self, attribute: TextAttribute) -> Option<Cow<'_, str>> {
        (**self).text(attribute)
    }

    fn provenance(&self, attribute: Attribute) -> Option<Provenance> {
        (**self).provenance(attribute)
    }
}

/// True, false, or undefined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not.
    False,
    /// It hangs on something that has no value.
    Undefined,
}

impl Truth {
    const fn of(value: bool) -> Self {
        if value { Truth::True } else { Truth::False }
    }

    const fn opposite(self) -> Self {
        match self {
            Truth::True => Truth::False,
            Truth::False => Truth::True,
            Truth::Undefined => Truth::Undefined,
        }
    }
}

impl Condition {
    /// What it is of an offer with these attributes.
    pub fn truth<D: Described>(&self, of: &D) -> Truth {
        match self {
            Condition::Const(value) => Truth::of(*value),
            Condition::Compare(compare) => compare.truth(of),
            Condition::In { values, equal } => {
                values.contain(of).map_or(Truth::Undefined, |contained| Truth::of(contained == *equal))
            }
            Condition::Defined(attribute) => Truth::of(of.provenance(*attribute).is_some()),
            Condition::Provenance { of: attribute, is, equal } => {
                of.provenance(*attribute).map_or(Truth::Undefined, |from| Truth::of((from == *is) == *equal))
            }
            Condition::Not(inner) => inner.truth(of).opposite(),
            Condition::And(all) => decided(all, of, Truth::False),
            Condition::Or(all) => decided(all, of, Truth::True),
        }
    }
}

/// One clause that `decides` is enough; otherwise one that is undefined leaves all undefined.
fn decided<D: Described>(all: &[Condition], of: &D, decides: Truth) -> Truth {
    let mut truth = decides.opposite();
    for one in all {
        match one.truth(of) {
            found if found == decides => return decides,
            Truth::Undefined => truth = Truth::Undefined,
            Truth::True | Truth::False => {}
        }
    }
    truth
}

impl Comparison {
    fn truth<D: Described>(&self, of: &D) -> Truth {
        match (self.left.value(of), self.right.value(of)) {
            (Some(left), Some(right)) => Truth::of(self.operator.holds(left, right)),
            (None, _) | (_, None) => Truth::Undefined,
        }
    }
}

impl Operator {
    /// Whether it holds between two numbers.
    pub fn holds(self, left: Number, right: Number) -> bool {
        match self {
            Operator::Less => left < right,
            Operator::AtMost => left <= right,
            Operator::Greater => left > right,
            Operator::AtLeast => left >= right,
            Operator::Equal => left == right,
            Operator::Unequal => left != right,
        }
    }
}

impl Values {
    /// Whether the attribute's value is among these; nothing while it has none.
    fn contain<D: Described>(&self, of: &D) -> Option<bool> {
        match self {
            Values::Numbers(attribute, numbers) => of.number(*attribute).map(|value| numbers.contains(&value)),
            Values::Texts(attribute, texts) => {
                of.text(*attribute).map(|value| texts.iter().any(|text| **text == *value))
            }
        }
    }
}

impl Numeric {
    /// Its value of an offer with these attributes.
    pub fn value<D: Described>(&self, of: &D) -> Option<Number> {
        match self {
            Numeric::Literal(number) => Some(*number),
            Numeric::Attribute(attribute) => of.number(*attribute),
            Numeric::Negated(inner) => inner.value(of)?.negated(),
            Numeric::Sum(sides) => sides.0.value(of)?.plus(sides.1.value(of)?),
            Numeric::Difference(sides) => sides.0.value(of)?.minus(sides.1.value(of)?),
            Numeric::Product(sides) => sides.0.value(of)?.times(sides.1.value(of)?),
            Numeric::Quotient(sides) => sides.0.value(of)?.over(sides.1.value(of)?),
        }
    }
}
