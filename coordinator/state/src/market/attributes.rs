//! What can be asked about an offer, from the rows that are there. What nothing measures yet is undefined.

use super::{
    OfferRow, OfferStatus,
    query::{Attribute, Attributes, Described, Number, NumberAttribute, Provenance, TextAttribute},
};
use crate::{ids::MachineId, machines::MachineRow, power::PowerRow, state::State};
use matrixai_protocol::drilling::Kernel;
use std::borrow::Cow;

const BYTES_A_GIB: u128 = 1 << 30;
const S_PER_MIN: u64 = 60;
const MICRO: u128 = 1_000_000;

/// What the attribute `rent` says.
const ON_DEMAND: &str = "on-demand";
const INTERRUPTIBLE: &str = "interruptible";

/// An offer with the rows that its attributes are in.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    pub(super) offer: &'a OfferRow,
    machine: Option<&'a MachineRow>,
    power: Option<&'a PowerRow>,
}

impl<'a> Rows<'a> {
    /// Those of an offer.
    pub(crate) fn of(state: &'a State, offer: &'a OfferRow) -> Self {
        let of: MachineId = offer.machine;
        Self::new(offer, state.machines.get(&of), state.power.get(&of))
    }

    /// Those that somebody has found.
    pub(super) const fn new(offer: &'a OfferRow, machine: Option<&'a MachineRow>, power: Option<&'a PowerRow>) -> Self {
        Self { offer, machine, power }
    }

    /// Whether its machine can be had under it: there, free, measured.
    pub(crate) fn available(&self) -> bool {
        self.offer.status == OfferStatus::Open
            && self.machine.is_some_and(|row| row.available() && row.is_free())
            && self.power.is_some_and(PowerRow::has_fgemm)
    }

    /// Memory of its machine, bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.machine.map_or(0, |row| row.inventory.ram_bytes)
    }

    fn speed(&self, kernel: Kernel) -> Option<Number> {
        let speed = self.power?.speeds.get(&kernel).filter(|speed| !speed.provisional())?;
        Some(Number::whole(speed.median()))
    }
}

impl Described for Rows<'_> {
    fn number(&self, attribute: NumberAttribute) -> Option<Number> {
        let gib = |bytes: u64| Number::ratio(bytes.into(), BYTES_A_GIB);
        match attribute {
            NumberAttribute::Price => Some(Number::money(self.offer.price_per_hour)),
            NumberAttribute::RentMin => Some(Number::whole(self.offer.duration_min_s)),
            NumberAttribute::RentMax => Some(Number::whole(self.offer.duration_max_s)),
            NumberAttribute::Cores => Some(Number::whole(self.machine?.inventory.cores.into())),
            NumberAttribute::Ram => gib(self.machine?.inventory.ram_bytes),
            NumberAttribute::Reserve => Some(Number::money(self.offer.interruption?.reserve_price)),
            NumberAttribute::Grace => {
                Some(Number::whole(u64::from(self.offer.interruption?.grace_min).saturating_mul(S_PER_MIN)))
            }
            NumberAttribute::Disk => match self.offer.disk_gib {
                Some(gib) => Some(Number::whole(gib.into())),
                None => gib(self.machine?.inventory.disk_bytes),
            },
            NumberAttribute::SpeedIgemm => self.speed(Kernel::Igemm),
            NumberAttribute::SpeedFgemm => self.speed(Kernel::Fgemm),
            NumberAttribute::SpeedMemwalk => self.speed(Kernel::Memwalk),
            NumberAttribute::SpeedQmlp => self.speed(Kernel::Qmlp),
            NumberAttribute::Power => {
                let power = self.power?;
                Number::ratio(power.drilling_micro_ut.saturating_add(power.training_micro_ut), MICRO)
            }
            NumberAttribute::Reliability => self.machine?.reliability.share(),
            NumberAttribute::GpuRam => None,
        }
    }

    fn text(&self, attribute: TextAttribute) -> Option<Cow<'_, str>> {
        match attribute {
            TextAttribute::Owner => Some(self.offer.owner.to_string().into()),
            TextAttribute::Machine => Some(self.offer.machine.to_string().into()),
            TextAttribute::Rent => {
                Some(if self.offer.interruption.is_some() { INTERRUPTIBLE } else { ON_DEMAND }.into())
            }
            TextAttribute::Cpu => Some(self.machine?.inventory.cpu_model.as_str().into()),
            TextAttribute::Os => Some(self.machine?.inventory.os.as_str().into()),
            TextAttribute::Region => {
                let region = self.machine?.inventory.region.as_str();
                (!region.is_empty()).then(|| region.into())
            }
        }
    }

    fn provenance(&self, attribute: Attribute) -> Option<Provenance> {
        let defined = match attribute {
            Attribute::Number(attribute) => self.number(attribute).is_some(),
            Attribute::Text(attribute) => self.text(attribute).is_some(),
        };
        let from = match attribute {
            Attribute::Number(
                NumberAttribute::Price
                | NumberAttribute::RentMin
                | NumberAttribute::RentMax
                | NumberAttribute::Reserve
                | NumberAttribute::Grace
                | NumberAttribute::Power
                | NumberAttribute::Reliability,
            )
            | Attribute::Text(TextAttribute::Owner | TextAttribute::Machine | TextAttribute::Rent) => {
                Provenance::Ledger
            }
            Attribute::Number(
                NumberAttribute::SpeedIgemm
                | NumberAttribute::SpeedFgemm
                | NumberAttribute::SpeedMemwalk
                | NumberAttribute::SpeedQmlp
                | NumberAttribute::GpuRam,
            ) => Provenance::Measured,
            Attribute::Number(NumberAttribute::Cores | NumberAttribute::Ram | NumberAttribute::Disk)
            | Attribute::Text(TextAttribute::Cpu | TextAttribute::Os | TextAttribute::Region) => Provenance::Claimed,
        };
        defined.then_some(from)
    }
}

/// The attributes of an offer and its machine, put together.
pub(crate) fn attributes(state: &State, offer: &OfferRow) -> Attributes {
    let (rows, mut found) = (Rows::of(state, offer), Attributes::default());
    for attribute in NumberAttribute::ALL {
        if let (Some(value), Some(from)) = (rows.number(*attribute), rows.provenance(Attribute::Number(*attribute))) {
            found.set_number(*attribute, value, from);
        }
    }
    for attribute in TextAttribute::ALL {
        if let (Some(value), Some(from)) = (rows.text(*attribute), rows.provenance(Attribute::Text(*attribute))) {
            found.set_text(*attribute, value.into(), from);
        }
    }
    found
}
