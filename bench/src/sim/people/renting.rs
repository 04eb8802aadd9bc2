//! Orders that stand by themselves: buyers place, amend and cancel them, both sides end what they led to, owners amend
//! offers. Legal mostly, and about things that others have just ended now and then.

use super::{BUYERS, People};
use crate::sim::{client::Request, found};
use matrixai_proto::v1::{self, command::Kind};
use matrixai_state::{
    State,
    ids::{AgreementId, OfferId, OrderId},
    money::MAI,
};

impl People {
    pub(super) fn renting(&mut self, state: &State) -> Request {
        let now_ms = state.now_ms();
        let buyer = found::key("buyer", self.rng.below(BUYERS));
        let owner = found::key("owner", self.rng.below(self.machines));
        let orders: Vec<OrderId> = state.orders().map(|row| row.id).take(16).collect();
        let running: Vec<AgreementId> = state.agreements().rev().map(|row| row.id).take(64).collect();
        let offers: Vec<OfferId> = state.offers().rev().map(|row| row.id).take(16).collect();
        let (signer, command) = match self.rng.below(9) {
            0 if !orders.is_empty() => {
                let order = self.rng.pick(&orders).0.to_vec();
                (buyer, Kind::CancelOrder(v1::CancelOrder { order }))
            }
            1 | 2 if !orders.is_empty() => {
                let order = self.rng.pick(&orders).0.to_vec();
                let (price_limit, machines) = (self.price(), self.rng.below(3) as u32);
                (buyer, Kind::AmendOrder(v1::AmendOrder { order, machines, price_limit, ..Default::default() }))
            }
            3 | 4 if !running.is_empty() => {
                let agreement = self.rng.pick(&running).0.to_vec();
                let signer = if self.rng.one_in(2) { buyer } else { owner };
                (signer, Kind::EndAgreement(v1::EndAgreement { agreement }))
            }
            7 if !running.is_empty() => {
                let agreement = self.rng.pick(&running).0.to_vec();
                let duration_s = self.rng.between(1, 60);
                (buyer, Kind::RenewAgreement(v1::RenewAgreement { agreement, duration_s }))
            }
            5 if !offers.is_empty() => {
                let offer = self.rng.pick(&offers).0.to_vec();
                let price_per_hour = self.price();
                (owner, Kind::AmendOffer(v1::AmendOffer { offer, price_per_hour, ..v1::AmendOffer::default() }))
            }
            6 if !offers.is_empty() => {
                let offer = self.rng.pick(&offers).0.to_vec();
                (buyer, Kind::PlaceOrder(v1::PlaceOrder { offer, ..self.order(now_ms, 1) }))
            }
            _ => {
                let machines = self.rng.between(1, 3) as u32;
                let least = self.rng.below(u64::from(machines) + 1) as u32;
                let immediate = self.rng.one_in(4);
                let order = v1::PlaceOrder { least, immediate, ..self.order(now_ms, machines) };
                (buyer, Kind::PlaceOrder(order))
            }
        };
        Self::plain(signer, vec![command], now_ms)
    }

    fn order(&mut self, now_ms: u64, machines: u32) -> v1::PlaceOrder {
        let queries = ["", "cores >= 2", "price <= 2", "defined(speed.fgemm)"];
        v1::PlaceOrder {
            machines,
            least: 0,
            price_limit: self.price(),
            total_limit: (u128::from(self.rng.between(1, 8)) * MAI / 4).to_string(),
            duration_s: self.rng.between(5, 90),
            expires_ms: now_ms + self.rng.between(1, 60) * 1_000,
            immediate: false,
            offer: Vec::new(),
            query: (*self.rng.pick(&queries)).to_owned(),
            start_deadline_s: self.rng.below(4) * 10,
            away_s: self.rng.below(4) * 10,
            interruptible: self.rng.one_in(2),
        }
    }

    fn price(&mut self) -> String {
        (u128::from(self.rng.between(1, 8)) * MAI / 2).to_string()
    }
}
