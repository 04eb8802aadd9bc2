//! Verbs of the market.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum OfferVerb {
    /// Offer a machine of the signing account.
    Make {
        /// Machine id.
        machine: String,
        /// MAI per hour.
        #[arg(long)]
        price: String,
        /// Shortest rent, seconds.
        #[arg(long, default_value_t = 1)]
        min_s: u64,
        /// Longest rent, seconds.
        #[arg(long, default_value_t = 86_400)]
        max_s: u64,
        /// Hours until the offer lapses.
        #[arg(long, default_value_t = 24)]
        hours: u64,
        /// Disk that goes with it, GiB; all that the machine has if none.
        #[arg(long, value_name = "GIB")]
        disk: Option<u32>,
        /// Interruptible: the machine may be taken back for an order that pays at least so much, MAI per hour.
        #[arg(long, requires = "grace_min")]
        reserve: Option<String>,
        /// Notice that the buyer has then, paid for, minutes: 1 to 720.
        #[arg(long, requires = "reserve")]
        grace_min: Option<u32>,
    },
    /// Give an offer a new price; it goes to the end of those at that price.
    Amend {
        offer: String,
        /// MAI per hour.
        #[arg(long)]
        price: String,
        /// Hours from now until the offer lapses; as before if none.
        #[arg(long)]
        hours: Option<u64>,
        /// Of an interruptible offer: what an order pays at least for which the machine is taken back; as before if none.
        #[arg(long)]
        reserve: Option<String>,
    },
    /// Withdraw an offer.
    Withdraw { offer: String },
    /// What machines like one cost: what is asked and what was agreed on, for its speed.
    Suggest {
        /// Machine id.
        machine: String,
    },
    /// How an offer fares: which waiting orders it loses to what, the price that would win one, what like machines earn.
    Explain { offer: String },
    /// Open offers, or all of them.
    List {
        #[arg(long)]
        all: bool,
    },
    /// The machine key can do nothing from now on.
    Revoke { machine: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum MarketVerb {
    /// Machines that can be rented now, best first.
    List(ListArgs),
    /// Open offers and waiting orders, best first.
    Book,
    /// Why an order or job waits for machines, and the cheapest single change with which it would get them now.
    Explain { order: String },
    /// Trades, newest first.
    History,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// What the machine and its offer must be, e.g. 'cores >= 8 && region == "europe"'.
    #[arg(long = "where", value_name = "QUERY", default_value = "")]
    pub(crate) query: String,
    /// Graphics processors that it must have.
    #[arg(long, default_value_t = 0)]
    pub(crate) gpus: u32,
    /// Part of the name of its processor or of a graphics processor.
    #[arg(long, default_value = "")]
    pub(crate) model: String,
    /// Where its owner says that it stands.
    #[arg(long)]
    pub(crate) region: Option<String>,
    /// What comes first: the lowest price of the speed is the default.
    #[arg(long, default_value = "auto", value_parser = ["auto", "price", "price-per-speed", "speed", "power", "reliability"])]
    pub(crate) sort: String,
    /// Page, from 1.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) page: u32,
    /// Machines of a page.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) per_page: u32,
    /// Every machine of the cluster instead, offered or not, in order of id.
    #[arg(long, conflicts_with_all = ["query", "gpus", "model", "region", "sort", "page", "per_page"])]
    pub(crate) all: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OrderVerb {
    /// Order machines; the total limit is held at once.
    Place(OrderArgs),
    /// Change a waiting order; it goes to the end of those with its limit.
    Amend {
        order: String,
        /// Machines that it still wants.
        #[arg(long)]
        machines: Option<u32>,
        /// Highest price of a machine, MAI per hour.
        #[arg(long)]
        price: Option<String>,
        /// What its further agreements may cost, MAI.
        #[arg(long)]
        total: Option<String>,
        /// Minutes from now for which it waits.
        #[arg(long)]
        minutes: Option<u64>,
    },
    /// Take a waiting order back; what it has led to goes on.
    Cancel { order: String },
    /// End an agreement, as its buyer or its seller: what was earned is paid, the rest goes back. The buyer also pays for what
    /// is left of the hour that has begun.
    End { agreement: String },
    /// Rent a machine for longer, at the agreement's own price.
    Renew {
        agreement: String,
        /// For how much longer, e.g. 90s, 30min or 2h.
        #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
        for_s: u64,
    },
    /// Why an order or job waits for machines, and the cheapest single change with which it would get them now.
    Explain { order: String },
    /// Waiting orders and running agreements of the signing account.
    List {
        /// Of everybody.
        #[arg(long)]
        everybody: bool,
        /// Closed agreements too.
        #[arg(long)]
        all: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct OrderArgs {
    /// Machines wanted.
    #[arg(long, default_value_t = 1)]
    pub(crate) machines: u32,
    /// Take at least so many at once, and the others as they come; otherwise all or none.
    #[arg(long, default_value_t = 0)]
    pub(crate) least: u32,
    /// Highest price of a machine, MAI per hour.
    #[arg(long)]
    pub(crate) price: String,
    /// Highest cost of everything, fees included, MAI.
    #[arg(long)]
    pub(crate) total: String,
    /// How long each machine is rented, seconds.
    #[arg(long, default_value_t = 3_600)]
    pub(crate) seconds: u64,
    /// Minutes for which it waits.
    #[arg(long, default_value_t = 60)]
    pub(crate) minutes: u64,
    /// Take what is there now and end.
    #[arg(long)]
    pub(crate) now: bool,
    /// This offer or nothing, now.
    #[arg(long)]
    pub(crate) offer: Option<String>,
    /// Seconds after a match within which a machine must begin; otherwise it is given back, for nothing.
    #[arg(long, default_value_t = 120)]
    pub(crate) start_s: u64,
    /// Seconds for which a machine may stay away; then what is left of its time is ordered again, of another owner.
    #[arg(long, default_value_t = 300)]
    pub(crate) away_s: u64,
    /// Take machines that may be taken back, too (`offer make --reserve`); otherwise only those on demand.
    #[arg(long)]
    pub(crate) interruptible: bool,
    /// What each machine must be, e.g. 'cores >= 8 && speed.fgemm > 40e9' (docs/QUERIES.md).
    #[arg(long = "where", value_name = "QUERY", default_value = "")]
    pub(crate) query: String,
}

/// A time such as `90s`, `30min` or `2h`, in seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "s" => 1,
        "min" => 60,
        "h" => 3_600,
        _ => return Err("a time is a number with s, min or h, such as 2h".to_owned()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    seconds.ok_or_else(|| "that is no number, or too long a time".to_owned())
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn times_have_units() {
        assert_eq!([seconds("90s"), seconds("30min"), seconds("2h")], [Ok(90), Ok(1_800), Ok(7_200)]);
        assert!(["", "2", "h", "2d", "-1h", "18446744073709551615h"].map(seconds).iter().all(Result::is_err));
    }
}
