//! The terms of an offer, and what is wrong with them.

use super::{DURATION_S_MAX, OfferRow};
use crate::{
    command::{AmendOffer, MakeOffer},
    machines::MachineRow,
    money::Money,
    outcome::{Detail, Refusal},
};
use serde::{Deserialize, Serialize};

/// Longest notice of an interruptible offer, minutes.
pub const GRACE_MIN_MAX: u32 = 720;

const BYTES_A_GIB: u64 = 1 << 30;

/// How a machine may be taken back while it is rented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interruption {
    /// What an order pays at least for which it is taken back, minor units per hour; never less than the offer's price.
    pub reserve_price: Money,
    /// Notice that its buyer has then, and for which it is still paid, minutes: 1 to [`GRACE_MIN_MAX`].
    pub grace_min: u32,
}

/// Checks what an offer says by itself, in this order: price, durations, how it may be taken back, expiry.
pub(super) fn check_offer(cmd: &MakeOffer, now_ms: u64) -> Result<Option<Interruption>, Refusal> {
    if cmd.price_per_hour.is_zero() {
        return Err(Refusal::ZeroPrice);
    }
    if cmd.duration_min_s == 0 || cmd.duration_max_s == 0 {
        return Err(Refusal::ZeroDuration);
    }
    if cmd.duration_min_s > cmd.duration_max_s || cmd.duration_max_s > DURATION_S_MAX {
        return Err(Refusal::BadDuration);
    }
    let interruption = interruption(cmd.price_per_hour, cmd.reserve_price, cmd.grace_min)?;
    if cmd.expires_ms <= now_ms {
        return Err(Refusal::OfferExpired);
    }
    Ok(interruption)
}

/// Checks the disk that an offer promises against what its machine claims.
pub(super) fn check_disk(disk_gib: Option<u32>, machine: &MachineRow) -> Result<(), Refusal> {
    let claimed = machine.inventory.disk_bytes;
    match disk_gib.map(|gib| u64::from(gib).saturating_mul(BYTES_A_GIB)) {
        Some(offered) if offered > claimed => {
            let has = claimed.checked_div(BYTES_A_GIB).unwrap_or(0);
            Err(Refusal::BadDisk(Detail::new(format_args!("the machine claims {has} GiB"))))
        }
        Some(_) | None => Ok(()),
    }
}

/// How an amended offer may be taken back: as before, but for the reserve price.
pub(super) fn amended(row: &OfferRow, cmd: &AmendOffer) -> Result<Option<Interruption>, Refusal> {
    let (reserve_price, grace_min) = match row.interruption {
        Some(before) => (cmd.reserve_price.or(Some(before.reserve_price)), before.grace_min),
        None => (cmd.reserve_price, 0),
    };
    interruption(cmd.price_per_hour, reserve_price, grace_min)
}

fn interruption(price: Money, reserve: Option<Money>, grace_min: u32) -> Result<Option<Interruption>, Refusal> {
    match reserve {
        None if grace_min == 0 => Ok(None),
        None => Err(Refusal::BadGrace),
        Some(reserve) if reserve < price => Err(Refusal::BadReserve),
        Some(_) if !(1..=GRACE_MIN_MAX).contains(&grace_min) => Err(Refusal::BadGrace),
        Some(reserve_price) => Ok(Some(Interruption { reserve_price, grace_min })),
    }
}
