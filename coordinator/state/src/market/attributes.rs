//! What can be asked about an offer, from the rows that are there. What nothing measures yet is undefined.

use super::{
    OfferRow,
    query::{Attributes, Number, NumberAttribute, Provenance, TextAttribute},
};
use crate::state::State;
use matrixai_protocol::drilling::Kernel;

const BYTES_A_GIB: u128 = 1 << 30;
const MICRO: u128 = 1_000_000;

/// The attributes of an offer and its machine.
pub(crate) fn attributes(state: &State, offer: &OfferRow) -> Attributes {
    let mut found = Attributes::default();
    let mut number = |attribute, value: Option<Number>, provenance| {
        if let Some(value) = value {
            found.set_number(attribute, value, provenance);
        }
    };
    number(NumberAttribute::Price, Some(Number::money(offer.price_per_hour)), Provenance::Ledger);
    number(NumberAttribute::RentMin, Some(Number::whole(offer.duration_min_s)), Provenance::Ledger);
    number(NumberAttribute::RentMax, Some(Number::whole(offer.duration_max_s)), Provenance::Ledger);
    if let Some(power) = state.power.get(&offer.machine) {
        for (kernel, speed) in power.speeds.iter().filter(|(_, speed)| !speed.provisional()) {
            let attribute = match kernel {
                Kernel::Igemm => NumberAttribute::SpeedIgemm,
                Kernel::Fgemm => NumberAttribute::SpeedFgemm,
                Kernel::Memwalk => NumberAttribute::SpeedMemwalk,
                Kernel::Qmlp => NumberAttribute::SpeedQmlp,
            };
            number(attribute, Some(Number::whole(speed.median())), Provenance::Measured);
        }
        let micro_ut = power.drilling_micro_ut.saturating_add(power.training_micro_ut);
        number(NumberAttribute::Power, Number::ratio(micro_ut, MICRO), Provenance::Ledger);
    }
    let Some(machine) = state.machines.get(&offer.machine) else { return found };
    let inventory = &machine.inventory;
    let gib = |bytes: u64| Number::ratio(bytes.into(), BYTES_A_GIB);
    number(NumberAttribute::Cores, Some(Number::whole(inventory.cores.into())), Provenance::Claimed);
    number(NumberAttribute::Ram, gib(inventory.ram_bytes), Provenance::Claimed);
    number(NumberAttribute::Disk, gib(inventory.disk_bytes), Provenance::Claimed);
    let mut text = |attribute, value: String, provenance| found.set_text(attribute, value.into(), provenance);
    text(TextAttribute::Owner, offer.owner.to_string(), Provenance::Ledger);
    text(TextAttribute::Machine, offer.machine.to_string(), Provenance::Ledger);
    text(TextAttribute::Cpu, inventory.cpu_model.clone(), Provenance::Claimed);
    text(TextAttribute::Os, inventory.os.clone(), Provenance::Claimed);
    found
}
