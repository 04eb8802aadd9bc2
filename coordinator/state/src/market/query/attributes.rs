//! What can be asked about an offer: closed lists of names, and the values of one offer.

use super::Number;
use std::{fmt, sync::Arc};

/// Defines a list of attributes with their names.
macro_rules! attributes {
    ($(#[$doc:meta])* $list:ident { $($(#[$one:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $list {
            $($(#[$one])* $variant,)*
        }

        impl $list {
            /// All of them.
            pub const ALL: &'static [$list] = &[$($list::$variant,)*];

            /// As it is written in a query.
            pub const fn name(self) -> &'static str {
                match self { $($list::$variant => $name,)* }
            }

            fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|attribute| attribute.name() == name)
            }
        }
    };
}

attributes! {
    /// Attributes that are numbers.
    NumberAttribute {
        /// MAI an hour.
        Price = "price",
        /// Shortest rent, seconds.
        RentMin = "rent_min",
        /// Longest rent, seconds.
        RentMax = "rent_max",
        /// Cores that the worker may use.
        Cores = "cores",
        /// At which price another order has the machine taken back, MAI an hour; undefined on demand.
        Reserve = "reserve",
        /// Notice of that, seconds; undefined on demand.
        Grace = "grace",
        /// Memory, GiB.
        Ram = "ram",
        /// Disk that is offered, GiB.
        Disk = "disk",
        /// Memory of one graphics processor, GiB; undefined until a measurement of it exists.
        GpuRam = "gpu_ram",
        /// Operations per second at `igemm`; a speed is undefined until five units are verified.
        SpeedIgemm = "speed.igemm",
        /// Operations per second at `fgemm`.
        SpeedFgemm = "speed.fgemm",
        /// Reads per second at `memwalk`.
        SpeedMemwalk = "speed.memwalk",
        /// Operations per second at `qmlp`.
        SpeedQmlp = "speed.qmlp",
        /// Computing power ever earned, ut.
        Power = "power",
        /// What it completed, of that and what failed by its fault; undefined while nothing is counted.
        Reliability = "reliability",
    }
}

attributes! {
    /// Attributes that are texts.
    TextAttribute {
        /// Account that is paid, in hexadecimal.
        Owner = "owner",
        /// The machine, in hexadecimal: an order for one machine alone names it.
        Machine = "machine",
        /// `on-demand`, or `interruptible`: it may be taken back while it is rented.
        Rent = "rent",
        /// Model of the processor.
        Cpu = "cpu",
        /// Operating system.
        Os = "os",
        /// Where its owner says that it stands; undefined if nothing is said.
        Region = "region",
    }
}

/// How many there are of each kind.
const NUMBERS: usize = NumberAttribute::ALL.len();
const TEXTS: usize = TextAttribute::ALL.len();

/// An attribute of either kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attribute {
    /// A number.
    Number(NumberAttribute),
    /// A text.
    Text(TextAttribute),
}

impl Attribute {
    /// As it is written in a query.
    pub const fn name(self) -> &'static str {
        match self {
            Attribute::Number(attribute) => attribute.name(),
            Attribute::Text(attribute) => attribute.name(),
        }
    }

    /// The attribute of a name.
    pub fn named(name: &str) -> Option<Self> {
        NumberAttribute::named(name).map(Attribute::Number).or_else(|| TextAttribute::named(name).map(Attribute::Text))
    }

    const fn place(self) -> usize {
        match self {
            Attribute::Number(attribute) => attribute as usize,
            Attribute::Text(attribute) => NUMBERS.saturating_add(attribute as usize),
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Provenance {
    /// The ledger's own: prices, ids, terms.
    Ledger,
    /// Measured by drilling.
    Measured,
    /// Said by an auditor.
    Attested,
    /// Said by the machine or its owner.
    Claimed,
}

impl Provenance {
    pub(super) const ALL: [Provenance; 4] =
        [Provenance::Ledger, Provenance::Measured, Provenance::Attested, Provenance::Claimed];

    /// As it is written in a query.
    pub const fn name(self) -> &'static str {
        match self {
            Provenance::Ledger => "ledger",
            Provenance::Measured => "measured",
            Provenance::Attested => "attested",
            Provenance::Claimed => "claimed",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provenance| provenance.name() == name)
    }
}

/// The values of one offer. What was never set is undefined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    numbers: [Option<Number>; NUMBERS],
    texts: [Option<Arc<str>>; TEXTS],
    provenance: [Option<Provenance>; NUMBERS + TEXTS],
}

impl Attributes {
    /// Sets a number.
    pub fn set_number(&mut self, attribute: NumberAttribute, value: Number, provenance: Provenance) {
        if let Some(place) = self.numbers.get_mut(attribute as usize) {
            *place = Some(value);
        }
        self.set_provenance(Attribute::Number(attribute), provenance);
    }

    /// Sets a text.
    pub fn set_text(&mut self, attribute: TextAttribute, value: Arc<str>, provenance: Provenance) {
        if let Some(place) = self.texts.get_mut(attribute as usize) {
            *place = Some(value);
        }
        self.set_provenance(Attribute::Text(attribute), provenance);
    }

    fn set_provenance(&mut self, attribute: Attribute, provenance: Provenance) {
        if let Some(place) = self.provenance.get_mut(attribute.place()) {
            *place = Some(provenance);
        }
    }

    /// A number's value.
    pub fn number(&self, attribute: NumberAttribute) -> Option<Number> {
        self.numbers.get(attribute as usize).copied().flatten()
    }

    /// A text's value.
    pub fn text(&self, attribute: TextAttribute) -> Option<&Arc<str>> {
        self.texts.get(attribute as usize)?.as_ref()
    }

    /// Where a value comes from; none for an undefined one.
    pub fn provenance(&self, attribute: Attribute) -> Option<Provenance> {
        self.provenance.get(attribute.place()).copied().flatten()
    }

    /// Whether an attribute has a value.
    pub fn defines(&self, attribute: Attribute) -> bool {
        self.provenance(attribute).is_some()
    }
}
