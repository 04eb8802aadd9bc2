//! Which queries may accept an offer: each is found by one clause that it needs, the one that fewest offers satisfy.

use super::Slot;
use crate::market::query::{Attributes, Condition, Number, NumberAttribute, Numeric, Operator, TextAttribute, Values};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What an offer must have for a query to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing: none of its clauses can be looked up.
    Always,
    Numbers(NumberAttribute, Vec<Number>),
    Texts(TextAttribute, Vec<Arc<str>>),
    /// This or more.
    From(NumberAttribute, Number),
    /// This or less.
    To(NumberAttribute, Number),
}

impl Access {
    /// The ways in which a condition can be found.
    pub(super) fn ways(condition: &Condition) -> impl Iterator<Item = (Access, &Condition)> {
        condition.clauses().iter().filter_map(|clause| Some((Access::of(clause)?, clause)))
    }

    fn of(clause: &Condition) -> Option<Self> {
        match clause {
            Condition::In { values, equal: true } => Some(match values {
                Values::Numbers(attribute, numbers) => Access::Numbers(*attribute, numbers.clone()),
                Values::Texts(attribute, texts) => Access::Texts(*attribute, texts.clone()),
            }),
            Condition::Compare(compare) => {
                let (Numeric::Attribute(attribute), Numeric::Literal(number)) = (&compare.left, &compare.right) else {
                    return None;
                };
                match compare.operator {
                    Operator::Greater | Operator::AtLeast => Some(Access::From(*attribute, *number)),
                    Operator::Less | Operator::AtMost => Some(Access::To(*attribute, *number)),
                    Operator::Equal | Operator::Unequal => None,
                }
            }
            Condition::In { equal: false, .. }
            | Condition::Const(_)
            | Condition::Defined(_)
            | Condition::Provenance { .. }
            | Condition::Not(_)
            | Condition::And(_)
            | Condition::Or(_) => None,
        }
    }
}

/// Queries by their access.
#[derive(Debug, Default)]
pub(super) struct AccessIndex {
    always: BTreeSet<Slot>,
    numbers: BTreeSet<(NumberAttribute, Number, Slot)>,
    texts: BTreeMap<(TextAttribute, Arc<str>), BTreeSet<Slot>>,
    from: BTreeSet<(NumberAttribute, Number, Slot)>,
    to: BTreeSet<(NumberAttribute, Number, Slot)>,
}

impl AccessIndex {
    pub(super) fn insert(&mut self, access: &Access, query: Slot) {
        match access {
            Access::Always => {
                self.always.insert(query);
            }
            Access::Numbers(attribute, numbers) => {
                self.numbers.extend(numbers.iter().map(|number| (*attribute, *number, query)));
            }
            Access::Texts(attribute, texts) => {
                for text in texts {
                    self.texts.entry((*attribute, Arc::clone(text))).or_default().insert(query);
                }
            }
            Access::From(attribute, number) => {
                self.from.insert((*attribute, *number, query));
            }
            Access::To(attribute, number) => {
                self.to.insert((*attribute, *number, query));
            }
        }
    }

    pub(super) fn remove(&mut self, access: &Access, query: Slot) {
        match access {
            Access::Always => {
                self.always.remove(&query);
            }
            Access::Numbers(attribute, numbers) => {
                for number in numbers {
                    self.numbers.remove(&(*attribute, *number, query));
                }
            }
            Access::Texts(attribute, texts) => {
                for text in texts {
                    let key = (*attribute, Arc::clone(text));
                    if let Some(queries) = self.texts.get_mut(&key) {
                        queries.remove(&query);
                        if queries.is_empty() {
                            self.texts.remove(&key);
                        }
                    }
                }
            }
            Access::From(attribute, number) => {
                self.from.remove(&(*attribute, *number, query));
            }
            Access::To(attribute, number) => {
                self.to.remove(&(*attribute, *number, query));
            }
        }
    }

    /// Adds the queries that may accept an offer: all that do, each once, and some that do not.
    pub(super) fn candidates(&self, of: &Attributes, found: &mut Vec<Slot>) {
        found.extend(&self.always);
        for attribute in NumberAttribute::ALL {
            let Some(value) = of.number(*attribute) else { continue };
            let (first, last) = ((*attribute, value, Slot::MIN), (*attribute, value, Slot::MAX));
            found.extend(self.numbers.range(first..=last).map(|(_, _, query)| *query));
            let lowest = (*attribute, Number::parts(i128::MIN), Slot::MIN);
            found.extend(self.from.range(lowest..=last).map(|(_, _, query)| *query));
            let highest = (*attribute, Number::parts(i128::MAX), Slot::MAX);
            found.extend(self.to.range(first..=highest).map(|(_, _, query)| *query));
        }
        for attribute in TextAttribute::ALL {
            let Some(value) = of.text(*attribute) else { continue };
            if let Some(queries) = self.texts.get(&(*attribute, Arc::clone(value))) {
                found.extend(queries);
            }
        }
    }
}
