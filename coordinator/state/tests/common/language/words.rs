//! Words of a scenario that stand for numbers.

pub(super) fn numbers(text: &str) -> Vec<u32> {
    text.split(',').filter(|part| !part.is_empty()).map(|part| part.parse().unwrap()).collect()
}

/// `5MAI` is 5 × 10^9 minor units; anything else is itself.
pub(super) fn plain(text: &str) -> String {
    match text.strip_suffix("MAI") {
        Some(mai) => (mai.parse::<u128>().unwrap() * matrixai_state::money::MAI).to_string(),
        None => text.to_owned(),
    }
}
