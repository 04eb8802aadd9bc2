//! Many payments in one envelope, of which all happen or none.

use super::Desk;
use crate::{
    client::refusal,
    convert,
    error::{CliError, Result},
    money::{mai, parse_mai},
    output,
};
use matrixai_proto::v1::{self, command::Kind};
use serde_json::json;
use std::path::Path;

/// The name under which commands are refused that are not to blame.
const LINKED_REFUSED: &str = "linked_refused";

/// One line of the file.
#[derive(Debug, PartialEq)]
struct Payment {
    line: usize,
    to: Vec<u8>,
    amount: u128,
    memo: String,
}

pub(super) async fn run(desk: &Desk, file: &Path, open: bool) -> Result<()> {
    let place = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| CliError::local(&format!("read {place}"), error))?;
    let payments = read(&text).map_err(|error| CliError::new(error.code, format!("{place}: {error}")))?;
    let commands = payments.iter().map(|payment| {
        let Payment { to, amount, memo, .. } = payment;
        Kind::Transfer(v1::Transfer { to: to.clone(), amount: amount.to_string(), memo: memo.clone(), open })
    });
    let (client, signer) = (desk.client().await?, desk.signer()?);
    let outcomes = client.submit_linked(&signer, commands.collect()).await?;
    if let Some(at) = outcomes.iter().position(|outcome| outcome.code != 0 && outcome.name != LINKED_REFUSED) {
        let line = payments.get(at).map_or(0, |payment| payment.line);
        let why = outcomes.get(at).map(|outcome| refusal(outcome).message).unwrap_or_default();
        return Err(CliError::refused(format!("{place}:{line}: {why}; nothing was paid")));
    }
    let total = mai(payments.iter().map(|payment| payment.amount).sum());
    let value = json!({ "result": "done", "payments": payments.len(), "total": total });
    output::show(desk.format, &value, || format!("{} payments, {total} MAI together", payments.len()));
    Ok(())
}

/// The payments of a file's text.
fn read(text: &str) -> Result<Vec<Payment>> {
    let mut payments = Vec::new();
    let mut total = 0_u128;
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let at = |error: CliError| CliError::usage(format!("line {line}: {error}"));
        let mut fields = text.splitn(3, ',').map(str::trim);
        let (Some(to), Some(amount)) = (fields.next(), fields.next()) else {
            return Err(at(CliError::usage("a line is an account id, MAI and perhaps a memo, separated by commas")));
        };
        let (to, amount) = (convert::id(to).map_err(at)?, parse_mai(amount).map_err(at)?);
        total = total.checked_add(amount).ok_or_else(|| at(CliError::usage("there is not so much money")))?;
        payments.push(Payment { line, to, amount, memo: fields.next().unwrap_or_default().to_owned() });
    }
    if payments.is_empty() {
        return Err(CliError::usage("no line of it is a payment"));
    }
    Ok(payments)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_account_amount_and_memo() {
        let to = "ab".repeat(20);
        let text = format!("# salaries\n\n{to},1.5\n {to} , 2 , May, and June\r\n");
        let payment = |line, amount, memo: &str| Payment { line, to: vec![0xab; 20], amount, memo: memo.to_owned() };
        assert_eq!(read(&text).unwrap(), [payment(3, 1_500_000_000, ""), payment(4, 2_000_000_000, "May, and June")]);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let to = "ab".repeat(20);
        for (text, said) in [
            (format!("{to},1\n{to}"), "line 2: a line is"),
            (format!("{to},1\n\n{to},x"), "line 3: `x` is no amount"),
            ("abc,1".to_owned(), "line 1: "),
            ("# nothing".to_owned(), "no line"),
            (format!("{to},{max}\n{to},{max}\n", max = u128::MAX / 1_000_000_000 / 2 + 1), "line 2: there is not"),
        ] {
            let error = read(&text).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
